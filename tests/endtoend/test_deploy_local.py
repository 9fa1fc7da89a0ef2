"""deploy/local/shapes.yaml serves, started as its first lines say."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from kandinsky.client import Client
from services.local.preflight import check_port
from tests.endtoend.conftest import wait_until_serving
from training.shapes.classifier import classify

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "deploy" / "local" / "shapes.yaml"
START_SECONDS, STOP_SECONDS = 240, 60


def commands() -> list[list[str]]:
    """What the manifest's first lines tell an operator to run."""
    lines = MANIFEST.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#   ").split() for line in lines if line.startswith("#   ")]


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[None]:
    """A command in the checkout's root; on leaving, nothing that it started is left."""
    with log.open("wb") as output:
        # RAY_ADDRESS: a Ray of its own, whatever else runs on this machine.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={**os.environ, "RAY_ADDRESS": "local"},
        )
    try:
        yield
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs([process, *family], timeout=STOP_SECONDS)
        for straggler in alive:
            straggler.kill()


@pytest.mark.timeout(600)  # Ray with its dashboard and three imports of torch, on a busy machine
def test_an_image_is_made(tmp_path: Path) -> None:
    serve, gateway = commands()
    assert serve[:2] == ["serve", "run"]
    assert gateway[:3] == ["python", "-m", "gateway"]
    # Ports of this test's own in place of those that the file and its commands name.
    listen, stages, http = (str(check_port("127.0.0.1", 0)) for _ in range(3))
    manifest = tmp_path / MANIFEST.name
    text = MANIFEST.read_text(encoding="utf-8")
    for old, new in (("port: 9000", f"port: {stages}"), ("port: 8000", f"port: {http}")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    manifest.write_text(text, encoding="utf-8")
    own = {
        "serve": str(Path(sys.executable).parent / "serve"),
        "python": sys.executable,
        "deploy/local/shapes.yaml": str(manifest),
        "127.0.0.1:50051": f"127.0.0.1:{listen}",
        "127.0.0.1:9000": f"127.0.0.1:{stages}",
    }
    serve, gateway = ([own.get(word, word) for word in line] for line in (serve, gateway))
    with running(serve, tmp_path / "serve.log"), running(gateway, tmp_path / "gateway.log"):
        try:
            wait_until_serving(f"127.0.0.1:{listen}", "shapes", START_SECONDS)
        except grpc.RpcError as error:
            log = (tmp_path / "serve.log").read_text(encoding="utf-8", errors="replace")
            raise AssertionError(f"serve run did not serve:\n{log[-4000:]}") from error
        with Client(f"127.0.0.1:{listen}", timeout=60) as client:
            [image] = client.text_to_image("a red circle on a white background", seed=0)
    seen = classify(image.image)
    assert (seen.colour, seen.shape, seen.background) == ("red", "circle", "white")
