"""The command against a recording gateway."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kandinsky.wire.errors import KandinskyError, Reason, Violation, invalid_fields
from services.local import health
from tests.kandinsky import recording
from tests.kandinsky.declared import app
from tests.kandinsky.recording import RecordingGateway


@pytest.fixture(autouse=True)
def own_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def test_an_image_is_written_and_its_seed_printed(
    gateway: RecordingGateway, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    gateway.events = [recording.progress(0, "denoise", 2, 25), recording.image(0, seed=7)]
    done = run(
        "text-to-image", "a red circle", "-o", str(out), "--seed", "7", "--address", gateway.address
    )
    assert done.exit_code == 0, done.output
    assert "seed 7" in done.stdout
    assert Image.open(out).size == (6, 4)
    (request,) = gateway.requests
    assert list(request.guide.text.prompts) == ["a red circle"]
    assert request.seed == 7
    assert not request.decoder.HasField("steps")


def test_several_images_get_numbers(gateway: RecordingGateway, tmp_path: Path) -> None:
    gateway.events = [recording.image(1, seed=8), recording.image(0, seed=7)]
    done = run(
        "text-to-image", "a", "b", "-o", str(tmp_path / "out.png"), "--address", gateway.address
    )
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["out-0.png", "out-1.png"]
    assert list(gateway.requests[0].guide.text.prompts) == ["a", "b"]


def test_violations_are_a_line_each(gateway: RecordingGateway, tmp_path: Path) -> None:
    gateway.events = []
    gateway.error = invalid_fields(
        [Violation("decoder.height", "is odd"), Violation("guide.text.prompts[0]", "is empty")]
    )
    done = run("text-to-image", "a", "-o", str(tmp_path / "a.png"), "--address", gateway.address)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == ["decoder.height: is odd", "guide.text.prompts[0]: is empty"]


def test_an_overload_says_when_to_come_back(gateway: RecordingGateway, tmp_path: Path) -> None:
    gateway.events = []
    gateway.error = KandinskyError(Reason.OVERLOADED, "the queue is full", retry_after=2)
    done = run("text-to-image", "a", "-o", str(tmp_path / "a.png"), "--address", gateway.address)
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("the queue is full; try again in 2 s")


def test_an_unreachable_server_names_address_and_remedy() -> None:
    done = run("models", "--address", "127.0.0.1:1")
    assert done.exit_code == 1
    assert done.stderr.strip() == (
        "no server answers at 127.0.0.1:1; start one with `kandinsky up`"
    )


@pytest.fixture
def another_server() -> Iterator[str]:
    """The address of a gRPC server that offers nothing."""
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield address
    server.stop(None)


@pytest.mark.parametrize("command", ["models", "status"])
def test_another_server_at_the_address_is_named(command: str, another_server: str) -> None:
    done = run(command, "--address", another_server)
    assert done.exit_code == 1
    sentence = "another server answers at that address: it does not know this call"
    assert done.stderr.strip() == sentence


def test_waiting_for_a_gateway_ends_where_another_server_answers(another_server: str) -> None:
    with pytest.raises(health.AnotherServer, match=another_server):
        health.wait_until_serving(another_server, "shapes", lambda: True)


def test_models_are_listed(gateway: RecordingGateway) -> None:
    done = run("models", "--address", gateway.address)
    assert done.exit_code == 0
    for word in ("shapes", "text_diff", "noise", "inpaint", "none", "128x128", "25 decoder steps"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["text-to-image"],
        ["text-to-image", "a", "-o", "image.gif"],
        ["text-to-image", "a", "-o", "no/such/folder/a.png"],
        ["text-to-image", "a", "-o", "a.png", "--format", "latents"],
        ["text-to-image", "a", "--steps", "many"],
        ["draw"],
        *(["text-to-image", "a", "--timeout", seconds] for seconds in ("0", "-1", "nan", "inf")),
        *(["models", "--address", address] for address in ("", "localhost", ":1", "a:99999")),
        ["status", "--address", ""],
        ["text-to-image", "a", "--address", ""],
    ],
)
def test_wrong_usage_is_exit_code_2(args: list[str]) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("name", "args", "taken"),
    [
        ("a.png", [], "a.png"),
        ("a.png", ["-n", "2"], "a-1.png"),
        ("a.png", ["b"], "a-1.png"),
        ("a.png", ["--preview-every", "5"], "a-0.preview.png"),
    ],
)
def test_an_output_that_is_a_folder_is_refused_before_anything_is_made(
    gateway: RecordingGateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    args: list[str],
    taken: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(taken).mkdir()
    done = run("text-to-image", "a", *args, "-o", name, "--address", gateway.address)
    assert done.exit_code == 2
    assert f"{taken} is a folder" in " ".join(done.stderr.split())
    assert gateway.requests == []


@pytest.mark.parametrize("forbidden", ["a.png", "."])
def test_so_is_one_without_permission(
    gateway: RecordingGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if forbidden != ".":
        Path(forbidden).touch()
    # The tests may run as root, whom permissions do not bind.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != Path(forbidden))
    done = run("text-to-image", "a", "-o", "a.png", "--address", gateway.address)
    assert done.exit_code == 2
    assert "a.png cannot be written: permission denied" in " ".join(done.stderr.split())
    assert gateway.requests == []


def test_frames_of_an_animation_are_one_file(gateway: RecordingGateway, tmp_path: Path) -> None:
    (tmp_path / "a-0.webp").mkdir()
    ends = ("--frames", "2", "--first", "a", "--last", "b")
    out = ("-o", str(tmp_path / "a.webp"), "--address", gateway.address)
    assert run("interpolate-frames", *ends, *out).exit_code == 0
    assert run("interpolate-frames", *ends, "-n", "2", *out).exit_code == 0


def test_a_deadline_that_passes_is_one_sentence(gateway: RecordingGateway, tmp_path: Path) -> None:
    gateway.silent = True
    out = ["-o", str(tmp_path / "a.png"), "--address", gateway.address]
    done = run("text-to-image", "a", "--timeout", "0.01", *out)
    assert done.exit_code == 1
    assert done.stderr == (
        f"the deadline of 0.01 s passed before the server at {gateway.address} had answered\n"
    )


def test_grpc_writes_nothing_of_its_own(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "kandinsky", "models", "--address", ""]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "'' is not HOST:PORT" in " ".join(done.stderr.split())
    assert "channel" not in done.stderr


def test_help_names_arguments_as_the_readme_does() -> None:
    for command, usage in (
        ("text-to-image", "PROMPT..."),
        ("inpaint", "FILE MASK PROMPT..."),
        ("control", "HINT PROMPT..."),
        ("variation", "FILE..."),
    ):
        said = run(command, "--help").stdout.replace("{", "").replace("}", "")
        assert f"{command} [OPTIONS] {usage}" in said


def test_nothing_runs() -> None:
    down, status = run("down"), run("status")
    assert (down.exit_code, down.stdout.strip()) == (0, "nothing is running")
    assert status.exit_code == 1
    assert "kandinsky up" in status.stderr
