"""A server of a benchmark as a child of this process, for as long as a block runs."""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from services.local.child import ServerError

ROOT = Path(__file__).parents[1]
START_SECONDS = 900  # compiling without a cache takes minutes
STOP_SECONDS = 60


@contextmanager
def child(module: str, *words: str) -> Iterator[str]:
    """Runs `python -m module words`; gives the first line that it prints, its address.

    The module must end when its standard input is closed, which the kernel does however this
    process ends.

    Raises:
        ServerError: it printed no address, or left processes behind, which are then killed.
    """
    command = [sys.executable, "-m", module, *words]
    searched = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": searched},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends it
        )
        try:
            yield _address(process, module, log)
        finally:
            _stop(process, module)


def wait_for_the_end() -> None:
    """Returns when the parent has closed this process's standard input."""
    sys.stdin.buffer.read()


def _address(process: "subprocess.Popen[bytes]", module: str, log: IO[bytes]) -> str:
    stdout = process.stdout
    ready = stdout is not None and select.select([stdout], [], [], START_SECONDS)[0]
    address = ready[0].readline().decode().strip() if ready else ""
    if not address:
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise ServerError(f"{module} did not start: {lines[-1]}")
    return address


def _stop(process: "subprocess.Popen[bytes]", module: str) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    try:
        process.communicate(timeout=STOP_SECONDS)  # closes its standard input
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, timeout=5)
    for straggler in left:
        straggler.kill()
    if left:
        names = ", ".join(sorted({straggler.name() for straggler in left}))
        raise ServerError(f"{module} left processes behind, now killed: {names}")
