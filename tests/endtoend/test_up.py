"""`kandinsky up` serves, and leaves no process however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from kandinsky.client import Client
from services.local.preflight import free_port
from tests import tiny

GONE_SECONDS = 15
SAID = ("starting the stages of tiny", "the stages take calls at ", "stopping")
"""All that `up` writes to the terminal beside the gateway's address: no line of Ray's workers."""


@contextmanager
def up(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a child, with a run folder of its own; killed if a test leaves it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kandinsky", "up", "--catalog", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_is_left(tiny_checkpoint: Path, number: signal.Signals) -> None:
    port = str(free_port())
    with up(tiny_checkpoint, "--model", "tiny", "--port", port) as process:
        announced = process.stdout.readline()
        assert f"127.0.0.1:{port}" in announced, process.stderr.read()
        with Client(f"127.0.0.1:{port}", timeout=60) as client:
            assert client.text_to_image("a red cat", model="tiny")[0].image.size == (64, 64)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 5
        gone_by = time.monotonic() + GONE_SECONDS
        process.send_signal(number)
        code = process.wait(GONE_SECONDS)
        _, alive = psutil.wait_procs(family, timeout=gone_by - time.monotonic())
        assert not alive
        assert code == (0 if number is not signal.SIGKILL else -number)
        said = process.stderr.read()
    if number is not signal.SIGKILL:  # then nobody is left to keep Ray's processes quiet
        lines = said.splitlines()
        assert len(lines) == len(SAID), said
        assert all(map(str.startswith, lines, SAID)), said
    log = (tiny_checkpoint / "kandinsky" / "gateway.log").read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    assert any(e["event"] == "request" and e["rpc"] == "Generate" for e in entries)


def test_a_taken_port_is_one_sentence(tiny_checkpoint: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refusal = refused(tiny_checkpoint, "--model", "tiny", "--port", port)
    assert port in refusal


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    tiny.write_catalog(tmp_path)
    assert str(tmp_path / "prior") in refused(tmp_path, "--model", "tiny")


def test_a_broken_yaml_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [")
    assert "broken.yaml" in refused(tmp_path, "--model", "shapes")


def test_too_little_memory_is_one_sentence(tiny_checkpoint: Path) -> None:
    replicas = "100000000"
    assert "memory" in refused(
        tiny_checkpoint,
        "--model",
        "tiny",
        "--replicas-decoder",
        replicas,
        "--port",
        str(free_port()),
    )


def refused(folder: Path, *options: str) -> str:
    """What `kandinsky up` says when it does not start: one line, exit code 1, no traceback."""
    with up(folder, *options) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    sentence = " ".join(said.split())
    assert sentence
    assert "Traceback" not in sentence
    assert sentence.count(". ") == 0
    return sentence
