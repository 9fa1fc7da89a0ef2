"""Ctrl-C ends the command at any moment: exit code 130, and no traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.up import _address
from tests.kandinsky.recording import RecordingGateway

PROGRAM = """
import atexit, os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
class Interrupting:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
{before}
sys.argv = [{package!r}, *{args!r}]
runpy.run_module({package!r}, run_name="__main__")
"""


def start(
    folder: Path, *args: str, module: str = "", before: str = "", package: str = "kandinsky"
) -> "subprocess.Popen[str]":
    """The command in a process of its own, with a run folder of its own.

    Args:
        folder: the run folder.
        args: of the command.
        module: SIGINT comes when this one is about to be imported.
        before: a line that is run before the command.
        package: what `python -m` runs.
    """
    program = PROGRAM.format(module=module, before=before, args=args, package=package)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )


@pytest.mark.parametrize(
    ("command", "module"),
    [
        *(("models", name) for name in ("kandinsky.cli.app", "typer", "grpc._cython", "numpy")),
        ("models", "kandinsky.cli.flows"),
        *(
            ("up", name)
            for name in ("services.local.preflight", "psutil", "services.local.cluster")
        ),
        ("up", "ray.serve"),
    ],
)
def test_in_the_middle_of_an_import(tmp_path: Path, command: str, module: str) -> None:
    process = start(tmp_path, command, module=module)
    said = "".join(process.communicate(timeout=60))
    assert (process.returncode, said) == (130, "")


def test_the_gateway_s_own_imports(tmp_path: Path) -> None:
    process = start(tmp_path, module="structlog", package="gateway")
    said = "".join(process.communicate(timeout=60))
    assert (process.returncode, said) == (130, "")


def test_while_the_server_works(tmp_path: Path, gateway: RecordingGateway) -> None:
    gateway.silent = True
    out = str(tmp_path / "a.png")
    process = start(tmp_path, "text-to-image", "a", "-o", out, "--address", gateway.address)
    assert gateway.asked.wait(60)
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate(timeout=60))
    assert (process.returncode, said.strip()) == (130, "")


def test_when_all_is_done(tmp_path: Path, gateway: RecordingGateway) -> None:
    before = "atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    process = start(tmp_path, "models", "--address", gateway.address, before=before)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


def test_a_sigint_that_the_parent_has_ignored_stays_ignored(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    process = start(tmp_path, "models", "--address", "127.0.0.1:1", module="grpc", before=before)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no server answers" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_up_starts_its_stages(tmp_path: Path, number: signal.Signals) -> None:
    kill = f"os.kill(os.getpid(), {int(number)})"
    before = f"from services.local import cluster;cluster.start_serve = lambda *_: ({kill}, {kill})"
    process = start(tmp_path, "up", "--port", "0", before=before)
    said = "".join(process.communicate(timeout=60))
    assert process.returncode == 128 + number, said
    assert [line for line in said.splitlines() if line] == [
        "starting the stages of shapes",
        "stopping",
    ]
    assert list((tmp_path / "kandinsky").iterdir()) == []


def test_an_address_of_ipv6_takes_brackets() -> None:
    assert (_address("::1", 7), _address("localhost", 7)) == ("[::1]:7", "localhost:7")
