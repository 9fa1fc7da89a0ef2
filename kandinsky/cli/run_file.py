"""The file by which `up`, `down` and `status` of one user find each other."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

FILE = "up.json"


class RunFolderError(RuntimeError):
    """The run folder cannot be trusted or written; the message is one sentence."""


@dataclass(frozen=True)
class Running:
    """One `kandinsky up`."""

    pid: int
    started: float
    """When the process started, seconds since the epoch; with `pid` it names one process."""
    address: str
    """HOST:PORT of its gateway."""
    models: tuple[str, ...]


def folder() -> Path:
    """The user's run folder, made where it is missing, readable by the user alone.

    Raises:
        RunFolderError: it cannot be made, or belongs to somebody else.
    """
    home = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(home) / "kandinsky" if home else _in_temporary_folder()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat().st_uid
    except OSError as error:
        raise RunFolderError(f"run folder {path} cannot be used: {error.strerror}") from error
    if owner != os.getuid():
        raise RunFolderError(f"run folder {path} belongs to another user")
    return path


def read() -> Running | None:
    """What the run file says, true or stale; None where there is none.

    Raises:
        RunFolderError: it cannot be read.
    """
    try:
        raw: dict[str, Any] = json.loads((folder() / FILE).read_text(encoding="utf-8"))
        return Running(raw["pid"], raw["started"], raw["address"], tuple(raw["models"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise RunFolderError(
            f"run file {error.filename} cannot be read: {error.strerror}"
        ) from error


def current() -> Running | None:
    """The `up` that runs now; a stale file is not believed."""
    running = read()
    return running if running is not None and process(running) is not None else None


def claim(running: Running) -> Running | None:
    """Writes the run file unless another `up` runs; returns that other one."""
    path = folder() / FILE
    draft = path.with_suffix(f".{running.pid}")
    draft.write_text(json.dumps(asdict(running)), encoding="utf-8")
    try:
        while True:
            try:
                os.link(draft, path)  # appears whole, and only if no other is there
                return None
            except FileExistsError:
                other = current()
                if other is not None:
                    return other
                path.unlink(missing_ok=True)
    finally:
        draft.unlink(missing_ok=True)


def release(running: Running) -> None:
    """Removes the run file if it is still this one's."""
    if read() == running:
        (folder() / FILE).unlink(missing_ok=True)


def process(running: Running) -> psutil.Process | None:
    """The psutil.Process of an `up`; None if it has ended, or its number is another's now."""
    try:
        found = psutil.Process(running.pid)
        is_same = abs(found.create_time() - running.started) < 0.1
        return found if is_same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _in_temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"kandinsky-{os.getuid()}"
