"""`kandinsky up` as a child of this process, for as long as a block runs."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from services.local import health, preflight

START_SECONDS = 300
STOP_SECONDS = 60


class ServerError(RuntimeError):
    """The server did not start or did not end; the message is one sentence."""


@contextmanager
def serving(model: str, options: Sequence[str] = ()) -> Iterator[str]:
    """Serves a model on a free port; gives HOST:PORT once it is healthy.

    `options` are further ones of `kandinsky up`.

    On leaving, the server is ended as by Ctrl-C, and none of its processes is left.

    Raises:
        ServerError: it did not become healthy, or did not end by itself.
    """
    with tempfile.TemporaryDirectory(prefix="kandinsky-") as folder:
        log = Path(folder) / "up.log"
        port = preflight.check_port("127.0.0.1", 0)
        command = [sys.executable, "-m", "kandinsky", "up", "--model", model, "--port", str(port)]
        command += options
        # A run folder of its own: a `kandinsky up` of the same user is not disturbed.
        environment = {**os.environ, "XDG_RUNTIME_DIR": folder}
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            address = f"127.0.0.1:{port}"
            if not health.wait_until_serving(
                address, model, lambda: process.poll() is None, START_SECONDS
            ):
                raise ServerError(f"kandinsky up did not become healthy: {_last_line(log)}")
            yield address
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, timeout=5)
    for straggler in left:
        straggler.kill()
    if left:
        names = ", ".join(sorted({straggler.name() for straggler in left}))
        raise ServerError(f"kandinsky up left processes behind, now killed: {names}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
