"""`kandinsky generate`: every guide with every canvas, and options that do not go together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kandinsky.cli.app import app
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire import tensors
from tests.kandinsky import recording
from tests.kandinsky.recording import RecordingGateway

EMBEDS = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current one: a folder with an image `a.png` and arrays."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2), "red").save("a.png")
    np.save("two.npy", EMBEDS)
    np.save("one.npy", EMBEDS[0])
    np.save("three.npy", np.zeros((3, 4), np.float32))
    np.save("cube.npy", np.zeros((1, 2, 3), np.float32))
    return tmp_path


def run(gateway: RecordingGateway, *args: str) -> Result:
    return CliRunner().invoke(app, ["generate", *args, "--address", gateway.address])


def sent(index: int) -> Any:
    return tensors.encode(EMBEDS[index])


GUIDES: dict[str, tuple[list[str], Any]] = {
    "text": (
        ["--prompt", "a", "--prompt", "b"],
        lambda file: {"text": {"prompts": ["a", "b"]}},
    ),
    "text and image": (
        ["--prompt", "a", "--beside-image", "a.png", "--text-to-image-strength", "0.25"],
        lambda file: {
            "text_and_image": {"prompts": ["a"], "images": [file], "text_to_image_strength": 0.25}
        },
    ),
    "mix": (
        ["--mix-text", "0.5:a", "--mix-image", "2:a.png", "--interpolation", "spherical"],
        lambda file: {
            "mix": {
                "sources": [
                    {"source": {"text": "a"}, "weight": 0.5},
                    {"source": {"image": file}, "weight": 2},
                ],
                "interpolation": "INTERPOLATION_SPHERICAL",
            }
        },
    ),
    "interpolation": (
        [*("--frames", "3", "--first", "a", "--last-image", "a.png"), "--interpolation", "linear"],
        lambda file: {
            "interpolation": {
                "first": {"text": "a"},
                "last": {"image": file},
                "frames": 3,
                "interpolation": "INTERPOLATION_LINEAR",
            }
        },
    ),
    "image": (
        ["--variation", "a.png", "--variation", "a.png"],
        lambda file: {"image": {"images": [file, file]}},
    ),
    "text diff": (
        ["--edit", "a.png", "--from", "a", "--to", "b", "--amount", "0"],
        lambda file: {"text_diff": {"images": [file], "source": "a", "target": "b", "amount": 0}},
    ),
    "embeddings": (
        ["--embeds", "two.npy", "--negative-embeds", "one.npy"],
        lambda file: {
            "embeddings": {
                "conditionings": [
                    {"image_embed": sent(0), "negative_image_embed": sent(0)},
                    {"image_embed": sent(1), "negative_image_embed": sent(0)},
                ]
            }
        },
    ),
}
CANVASES: dict[str, tuple[list[str], Any]] = {
    "noise": ([], lambda file: None),
    "image": (
        ["--canvas-image", "a.png", "--strength", "0.5"],
        lambda file: {"image": {"images": [file], "strength": 0.5}},
    ),
    "the guide's image": (["--strength", "0.5"], lambda file: {"image": {"strength": 0.5}}),
    "inpaint": (
        ["--canvas-image", "a.png", "--mask", "a.png", "--padding-mask-crop", "0"],
        lambda file: {"inpaint": {"images": [file], "masks": [file], "padding_mask_crop": 0}},
    ),
    "inpaint the guide's image": (
        ["--mask", "a.png", "--strength", "1"],
        lambda file: {"inpaint": {"masks": [file], "strength": 1}},
    ),
    "outpaint": (
        ["--canvas-image", "a.png", "--left", "1", "--right", "2", "--top", "3", "--bottom", "4"],
        lambda file: {"outpaint": {"images": [file], "left": 1, "right": 2, "top": 3, "bottom": 4}},
    ),
}


@pytest.mark.parametrize("control", [False, True], ids=["", "control"])
@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("guide", GUIDES)
def test_any_combination(
    gateway: RecordingGateway, folder: Path, guide: str, canvas: str, control: bool
) -> None:
    (options, guide_of), (more, canvas_of) = GUIDES[guide], CANVASES[canvas]
    done = run(gateway, *options, *more, *(["--hint", "a.png"] if control else []))
    assert done.exit_code == 0, done.output
    file = {"encoded": (folder / "a.png").read_bytes()}
    assert gateway.requests == [
        GenerateRequest(
            model="shapes",
            guide=guide_of(file),
            canvas=canvas_of(file),
            control={"hints": [file]} if control else None,
            output={"format": "OUTPUT_FORMAT_PNG"},
        )
    ]


def test_what_goes_beside_any_guide(gateway: RecordingGateway) -> None:
    done = run(
        gateway,
        *("--variation", "a.png", "--negative-prompt", "x", "--negative-embeds", "one.npy"),
        *("--negative-prior-prompt", "y", "--prior-strength", "0.25", "--decoder-prompt", "z"),
    )
    assert done.exit_code == 0, done.output
    [request] = gateway.requests
    assert request.negative.texts == ["x"]
    assert request.negative.image_embeds == tensors.encode(EMBEDS[:1])
    assert request.prior.negative_texts == ["y"]
    assert request.prior.start.strength == 0.25
    assert request.decoder.texts == ["z"]


WRONG: dict[str, tuple[list[str], str]] = {
    "no guide": ([], "pass one of --prompt, --mix-text or --mix-image, --frames, --variation"),
    "two guides": (["--prompt", "a", "--variation", "a.png"], "--variation: does not go with"),
    "an amount for a prompt": (["--prompt", "a", "--amount", "1"], "--amount: does not go with"),
    "a frame alone": (["--first", "a"], "--first: pass one of --prompt"),
    "an image beside no prompt": (
        ["--beside-image", "a.png"],
        "--beside-image: pass one of --prompt",
    ),
    "a share of a text alone": (
        ["--prompt", "a", "--text-to-image-strength", "0.5"],
        "--text-to-image-strength: needs --beside-image",
    ),
    "no last frame": (["--frames", "2", "--first", "a"], "--last: pass either a prompt, or an"),
    "no target": (["--edit", "a.png", "--from", "a"], "--edit needs --to"),
    "two canvases": (
        ["--prompt", "a", "--mask", "a.png", "--left", "1"],
        "--left: does not go with --mask",
    ),
    "a crop without a mask": (
        ["--prompt", "a", "--padding-mask-crop", "1"],
        "--padding-mask-crop: pass one of --mask",
    ),
    "a missing file": (["--variation", "b.png"], "'b.png' does not exist"),
}


@pytest.mark.parametrize(("args", "sentence"), WRONG.values(), ids=WRONG)
def test_a_combination_that_makes_no_sense_is_exit_code_2(
    gateway: RecordingGateway, args: list[str], sentence: str
) -> None:
    done = run(gateway, *args)
    assert done.exit_code == 2, done.output
    said = " ".join(done.stderr.replace("│", " ").split())
    assert sentence in said
    assert gateway.requests == []


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--embeds", "cube.npy"], "cube.npy holds the shape [1, 2, 3]; it must be [items, D]"),
        (["--embeds", "a.png"], "a.png cannot be read as an npy file: "),
        (
            ["--embeds", "two.npy", "--negative-embeds", "three.npy"],
            "negative_image_embeds: holds 3 rows; pass 1, or one for each of the 2 image_embeds",
        ),
        (["--mix-image", "1:b.png"], "file b.png does not exist"),
        (["--prompt", " "], "guide.text.prompts[0]: is empty"),
        (["--prompt", "a", "--strength", "2"], "canvas.image.strength: 2 is not above 0, up to 1"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_sentence(
    gateway: RecordingGateway, args: list[str], sentence: str
) -> None:
    done = run(gateway, *args)
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
    assert gateway.requests == []


def test_frames_are_animated_where_the_suffix_says_so(gateway: RecordingGateway) -> None:
    gateway.events = [recording.image(index, seed=7) for index in (1, 0)]
    done = run(gateway, "--frames", "2", "--first", "a", "--last", "b", "-o", "out.webp")
    assert done.exit_code == 0, done.output
    assert [path.name for path in Path().glob("out*")] == ["out.webp"]


def test_an_estimate_is_printed_and_nothing_is_written(
    gateway: RecordingGateway, folder: Path
) -> None:
    gateway.events = [recording.estimated()]
    done = run(gateway, "--prompt", "a", "--estimate")
    assert done.exit_code == 0, done.output
    assert gateway.requests[0].validate_only
    assert "images: 1; least time: 2.5 s" in done.stdout
    for word in ("prior", "50", "0.5 s", "decoder", "12800", "not measured yet"):
        assert word in done.stdout
    assert not (folder / "out.png").exists()
