"""Every command that makes pictures, against a recording gateway."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kandinsky.cli.app import app
from kandinsky.v1 import generation_pb2 as generation
from tests.kandinsky import recording
from tests.kandinsky.recording import RecordingGateway


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current one: an empty folder with a picture `a.png`."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2), "red").save("a.png")
    return tmp_path


def run(gateway: RecordingGateway, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--address", gateway.address])


PNG = {"output_format": "OUTPUT_FORMAT_PNG"}

COMMANDS: dict[str, tuple[list[str], Any]] = {
    "mix": (
        ["mix", "--text", "0.5:a: b", "--text", "-1:c", "--image", "0.25:a.png"],
        lambda file: generation.MixRequest(
            conditions=[
                {"text": "a: b", "weight": 0.5},
                {"text": "c", "weight": -1},
                {"image": file, "weight": 0.25},
            ]
        ),
    ),
    "interpolate-frames": (
        ["interpolate-frames", "--frames", "3", "--first", "a", "--last-image", "a.png"],
        lambda file: generation.InterpolateFramesRequest(
            first={"text": "a"}, last={"image": file}, frames=3
        ),
    ),
    "image-to-image": (
        ["image-to-image", "a.png", "a", "--strength", "0.5", "--negative-prompt", "x"],
        lambda file: generation.ImageToImageRequest(
            image=file, prompts=["a"], negative_prompts=["x"], strength=0.5
        ),
    ),
    "inpaint": (
        ["inpaint", "a.png", "a.png", "a", "--padding-mask-crop", "8"],
        lambda file: generation.InpaintRequest(
            image=file, mask=file, prompts=["a"], padding_mask_crop=8
        ),
    ),
    "outpaint": (
        ["outpaint", "a.png", "a", "--right", "64"],
        lambda file: generation.OutpaintRequest(image=file, prompts=["a"], right=64),
    ),
    "variation": (
        ["variation", "a.png", "a.png"],
        lambda file: generation.VariationRequest(images=[file, file]),
    ),
    "control": (
        ["control", "a.png", "a", "--image", "a.png"],
        lambda file: generation.ControlRequest(hint=file, prompts=["a"], image=file),
    ),
    "text-guided-edit": (
        ["text-guided-edit", "a.png", "--from", "a", "--to", "b", "--amount", "0.25"],
        lambda file: generation.TextGuidedEditRequest(
            image=file, source_prompt="a", target_prompt="b", amount=0.25
        ),
    ),
}


TEXTS_OF_A_MIX = {"negative_prompt": "x", "negative_prior_prompt": "y", "prompt": "z"}
OF_A_MIX = ["--negative-prompt", "x", "--negative-prior-prompt", "y", "--prompt", "z"]
OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "mix": (
        [*OF_A_MIX, "--interpolation", "spherical"],
        {**TEXTS_OF_A_MIX, "interpolation": "INTERPOLATION_SPHERICAL"},
    ),
    "mix, linear": (["--interpolation", "linear"], {"interpolation": "INTERPOLATION_LINEAR"}),
    "interpolate-frames": (
        [*OF_A_MIX, "--interpolation", "spherical"],
        {**TEXTS_OF_A_MIX, "interpolation": "INTERPOLATION_SPHERICAL"},
    ),
    "image-to-image": (["--prior-strength", "0.25"], {"prior_strength": 0.25}),
    "inpaint": (
        ["--strength", "0.5", "--negative-prompt", "x"],
        {"strength": 0.5, "negative_prompts": ["x"]},
    ),
    "outpaint": (
        ["--top", "1", "--bottom", "2", "--left", "3", "--strength", "0.5"],
        {"top": 1, "bottom": 2, "left": 3, "strength": 0.5},
    ),
    "variation": (["--prompt", "z"], {"prompt": "z"}),
    "control": (
        ["--strength", "0.5", "--prior-strength", "0.25", "--negative-prompt", "x"],
        {"strength": 0.5, "prior_strength": 0.25, "negative_prompts": ["x"]},
    ),
    "text-guided-edit": (
        ["--strength", "0.5", "--prompt", "z"],
        {"strength": 0.5, "prompt": "z"},
    ),
}
"""What each command can be given beside, and the fields that it sets."""


@pytest.mark.parametrize(("name", "given"), OPTIONS.items(), ids=OPTIONS)
def test_every_option_reaches_its_field(
    gateway: RecordingGateway, folder: Path, name: str, given: tuple[list[str], dict[str, Any]]
) -> None:
    args, expected = COMMANDS[name.partition(",")[0]]
    options, fields = given
    done = run(gateway, *args, *options)
    assert done.exit_code == 0, done.output
    request = expected({"encoded": (folder / "a.png").read_bytes()})
    request.MergeFrom(type(request)(model="shapes", settings=PNG, **fields))
    assert gateway.requests == [request]


@pytest.mark.parametrize(("args", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_what_is_sent_and_written(
    gateway: RecordingGateway, folder: Path, args: list[str], expected: Any
) -> None:
    gateway.events = [recording.progress(0, "denoise", 2, 25), recording.picture(0, seed=7)]
    done = run(gateway, *args, "-o", "out.png", "--scheduler", "ddim", "--model", "tiny")
    assert done.exit_code == 0, done.output
    request = expected({"encoded": (folder / "a.png").read_bytes()})
    request.model = "tiny"
    request.settings.MergeFrom(generation.GenerationSettings(scheduler="ddim", **PNG))
    assert gateway.requests == [request]
    assert "out.png seed 7" in done.stdout
    assert Image.open(folder / "out.png").size == (6, 4)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_frames_become_one_moving_picture(gateway: RecordingGateway, suffix: str) -> None:
    gateway.events = [recording.picture(index, seed=7) for index in (1, 0)]
    args = ["--frames", "2", "--first", "a", "--last", "b", "-o", f"out.{suffix}"]
    done = run(gateway, "interpolate-frames", *args)
    assert done.exit_code == 0, done.output
    assert Path(f"out.{suffix}").exists()
    assert gateway.requests[0].settings.output_format == generation.OUTPUT_FORMAT_PNG


WRONG = {
    "no weight": ["mix", "--text", "a red circle"],
    "a weight that is none": ["mix", "--text", "much:a"],
    "a missing picture": ["image-to-image", "b.png", "a"],
    "a folder": ["variation", "."],
    "two first ends": ["interpolate-frames", "--frames", "2", "--first", "a"],
    "a moving inpaint": ["inpaint", "a.png", "a.png", "a", "-o", "out.gif"],
    "an unknown blend": ["mix", "--text", "1:a", "--interpolation", "cubic"],
}


@pytest.mark.parametrize("args", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_exit_code_2(gateway: RecordingGateway, args: list[str]) -> None:
    done = run(gateway, *args)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert gateway.requests == []


def test_a_missing_file_of_a_mix_is_a_sentence(gateway: RecordingGateway) -> None:
    done = run(gateway, "mix", "--image", "1:b.png")
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("b.png is no file")


def test_previews_stand_beside_the_output(gateway: RecordingGateway, folder: Path) -> None:
    gateway.events = [recording.preview(0, 5), recording.picture(0, seed=1)]
    done = run(gateway, "text-to-image", "a", "--preview-every", "5", "-o", "b.png")
    assert done.exit_code == 0, done.output
    assert gateway.requests[0].settings.preview_every == 5
    assert Image.open(folder / "b-0.preview.png").getpixel((0, 0)) == (255, 0, 0)
