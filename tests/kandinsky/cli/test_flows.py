"""Every command that makes images, against a recording gateway."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kandinsky.cli.app import app
from kandinsky.v1 import settings_pb2
from kandinsky.v1.generation_pb2 import GenerateRequest
from tests.kandinsky import recording
from tests.kandinsky.recording import RecordingGateway


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current one: an empty folder with an image `a.png`."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2), "red").save("a.png")
    return tmp_path


def run(gateway: RecordingGateway, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, "--address", gateway.address])


PNG = {"format": "OUTPUT_FORMAT_PNG"}
TEXT = {"text": {"prompts": ["a"]}}

COMMANDS: dict[str, tuple[list[str], Any]] = {
    "mix": (
        ["mix", "--text", "0.5:a: b", "--text", "-1:c", "--image", "0.25:a.png"],
        lambda file: GenerateRequest(
            guide={
                "mix": {
                    "sources": [
                        {"source": {"text": "a: b"}, "weight": 0.5},
                        {"source": {"text": "c"}, "weight": -1},
                        {"source": {"image": file}, "weight": 0.25},
                    ]
                }
            }
        ),
    ),
    "interpolate-frames": (
        ["interpolate-frames", "--frames", "3", "--first", "a", "--last-image", "a.png"],
        lambda file: GenerateRequest(
            guide={"interpolation": {"first": {"text": "a"}, "last": {"image": file}, "frames": 3}}
        ),
    ),
    "image-to-image": (
        ["image-to-image", "a.png", "a", "--strength", "0.5", "--negative-prompt", "x"],
        lambda file: GenerateRequest(
            guide=TEXT,
            canvas={"image": {"images": [file], "strength": 0.5}},
            negative={"texts": ["x"]},
        ),
    ),
    "inpaint": (
        ["inpaint", "a.png", "a.png", "a", "--padding-mask-crop", "8"],
        lambda file: GenerateRequest(
            guide=TEXT,
            canvas={"inpaint": {"images": [file], "masks": [file], "padding_mask_crop": 8}},
        ),
    ),
    "outpaint": (
        ["outpaint", "a.png", "a", "--right", "64"],
        lambda file: GenerateRequest(
            guide=TEXT, canvas={"outpaint": {"images": [file], "right": 64}}
        ),
    ),
    "variation": (
        ["variation", "a.png", "a.png"],
        lambda file: GenerateRequest(guide={"image": {"images": [file, file]}}),
    ),
    "dual-guided": (
        ["dual-guided", "a.png", "a", "b", "--text-to-image-strength", "0.25"],
        lambda file: GenerateRequest(
            guide={
                "text_and_image": {
                    "prompts": ["a", "b"],
                    "images": [file],
                    "text_to_image_strength": 0.25,
                }
            }
        ),
    ),
    "control": (
        ["control", "a.png", "a", "--image", "a.png"],
        lambda file: GenerateRequest(
            guide=TEXT, canvas={"image": {"images": [file]}}, control={"hints": [file]}
        ),
    ),
    "text-guided-edit": (
        ["text-guided-edit", "a.png", "--from", "a", "--to", "b", "--amount", "0.25"],
        lambda file: GenerateRequest(
            guide={"text_diff": {"images": [file], "source": "a", "target": "b", "amount": 0.25}}
        ),
    ),
}


TEXTS_OF_A_MIX = {
    "negative": {"texts": ["x"]},
    "prior": {"negative_texts": ["y"]},
    "decoder": {"texts": ["z"]},
}
OF_A_MIX = ["--negative-prompt", "x", "--negative-prior-prompt", "y", "--prompt", "z"]
OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "mix": (
        [*OF_A_MIX, "--interpolation", "spherical"],
        {**TEXTS_OF_A_MIX, "guide": {"mix": {"interpolation": "INTERPOLATION_SPHERICAL"}}},
    ),
    "mix, linear": (
        ["--interpolation", "linear"],
        {"guide": {"mix": {"interpolation": "INTERPOLATION_LINEAR"}}},
    ),
    "interpolate-frames": (
        [*OF_A_MIX, "--interpolation", "spherical"],
        {
            **TEXTS_OF_A_MIX,
            "guide": {"interpolation": {"interpolation": "INTERPOLATION_SPHERICAL"}},
        },
    ),
    "image-to-image": (["--prior-strength", "0.25"], {"prior": {"start": {"strength": 0.25}}}),
    "inpaint": (
        ["--strength", "0.5", "--negative-prompt", "x"],
        {"canvas": {"inpaint": {"strength": 0.5}}, "negative": {"texts": ["x"]}},
    ),
    "outpaint": (
        ["--top", "1", "--bottom", "2", "--left", "3", "--strength", "0.5"],
        {"canvas": {"outpaint": {"top": 1, "bottom": 2, "left": 3, "strength": 0.5}}},
    ),
    "variation": (["--prompt", "z"], {"decoder": {"texts": ["z"]}}),
    "dual-guided": (["--negative-prompt", "x"], {"negative": {"texts": ["x"]}}),
    "control": (
        ["--strength", "0.5", "--prior-strength", "0.25", "--negative-prompt", "x"],
        {
            "canvas": {"image": {"strength": 0.5}},
            "prior": {"start": {"strength": 0.25}},
            "negative": {"texts": ["x"]},
        },
    ),
    "text-guided-edit": (
        ["--strength", "0.5", "--prompt", "z"],
        {"canvas": {"image": {"strength": 0.5}}, "decoder": {"texts": ["z"]}},
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
    request.MergeFrom(GenerateRequest(model="shapes", output=PNG, **fields))
    assert gateway.requests == [request]


@pytest.mark.parametrize(("args", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_what_is_sent_and_written(
    gateway: RecordingGateway, folder: Path, args: list[str], expected: Any
) -> None:
    gateway.events = [recording.progress(0, "denoise", 2, 25), recording.image(0, seed=7)]
    done = run(gateway, *args, "-o", "out.png", "--scheduler", "ddim", "--model", "tiny")
    assert done.exit_code == 0, done.output
    request = expected({"encoded": (folder / "a.png").read_bytes()})
    request.MergeFrom(GenerateRequest(model="tiny", decoder={"scheduler": "ddim"}, output=PNG))
    assert gateway.requests == [request]
    assert "out.png seed 7" in done.stdout
    assert Image.open(folder / "out.png").size == (6, 4)


SETTINGS = {
    "-n 2": {"images_per_prompt": 2},
    "--height 64": {"decoder": {"height": 64}},
    "--width 64": {"decoder": {"width": 64}},
    "--steps 3": {"decoder": {"steps": 3}},
    "--guidance-scale 2.5": {"decoder": {"guidance_scale": 2.5}},
    "--prior-steps 3": {"prior": {"steps": 3}},
    "--prior-guidance-scale 2.5": {"prior": {"guidance_scale": 2.5}},
    "--seed 0": {"seed": 0},
    "--scheduler ddim --eta 0.5": {"decoder": {"scheduler": "ddim", "eta": 0.5}},
    "--timesteps 979,499,19": {"decoder": {"timesteps": [979, 499, 19]}},
    "--sigmas 13,3.25,0.25": {"decoder": {"sigmas": [13, 3.25, 0.25]}},
    "--adapter outlined:0.5 --adapter b": {
        "adapters": [{"name": "outlined", "scale": 0.5}, {"name": "b"}]
    },
    "--clip-skip 1": {"decoder": {"clip_skip": 1}},
    "--free-u 0.9 0.2 1.5 1.6": {
        "decoder": {"free_u": {"s1": 0.9, "s2": 0.2, "b1": 1.5, "b2": 1.6}}
    },
    "--super-resolution-steps 3": {"super_resolution": {"steps": 3}},
    "--preset balanced": {"decoder": {"preset": "PRESET_BALANCED"}},
    "--guidance-interval 0.25 1": {"decoder": {"guidance_interval": {"low": 0.25, "high": 1}}},
    "--step-cache-interval 2": {"decoder": {"step_cache_interval": 2}},
    "--progress-every 2": {"events": {"progress_every": 2}},
    "--preview-every 2 --preview-mode decode": {
        "events": {"preview_every": 2, "preview_mode": "PREVIEW_MODE_DECODE"}
    },
    "--quality 80": {"output": {"quality": 80}},
}


@pytest.mark.parametrize(("args", "fields"), SETTINGS.items(), ids=SETTINGS)
def test_every_setting_reaches_its_group(
    gateway: RecordingGateway, args: str, fields: dict[str, Any]
) -> None:
    done = run(gateway, "text-to-image", "a", *args.split())
    assert done.exit_code == 0, done.output
    request = GenerateRequest(model="shapes", guide=TEXT, output=PNG)
    request.MergeFrom(GenerateRequest(**fields))
    assert gateway.requests == [request]


def test_images_of_an_adapter(gateway: RecordingGateway, folder: Path) -> None:
    shown = ["--adapter", "ip:0.5", "--adapter-image", "ip=a.png", "--adapter-image", "ip=a.png"]
    done = run(gateway, "text-to-image", "a", "--adapter", "b", *shown)
    assert done.exit_code == 0, done.output
    images = [{"encoded": (folder / "a.png").read_bytes()}] * 2
    adapters = [{"name": "b"}, {"name": "ip", "scale": 0.5, "image_prompt": {"images": images}}]
    request = GenerateRequest(model="shapes", guide=TEXT, output=PNG)
    request.MergeFrom(GenerateRequest(adapters=adapters))
    assert gateway.requests == [request]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_frames_become_one_animation(gateway: RecordingGateway, suffix: str) -> None:
    gateway.events = [recording.image(index, seed=7) for index in (1, 0)]
    args = ["--frames", "2", "--first", "a", "--last", "b", "-o", f"out.{suffix}"]
    done = run(gateway, "interpolate-frames", *args)
    assert done.exit_code == 0, done.output
    assert Path(f"out.{suffix}").exists()
    assert gateway.requests[0].output.format == settings_pb2.OUTPUT_FORMAT_PNG


WRONG = {
    "no weight": ["mix", "--text", "a red circle"],
    "a word among timesteps": ["text-to-image", "a", "--timesteps", "979,b"],
    "a word for a scale": ["text-to-image", "a", "--adapter", "outlined:much"],
    "an image of no adapter": ["text-to-image", "a", "--adapter-image", "ip=a.png"],
    "no image of an adapter": [
        *("text-to-image", "a", "--adapter", "ip", "--adapter-image", "ip=b.png"),
    ],
    "a fraction among timesteps": ["text-to-image", "a", "--timesteps", "979,0.5"],
    "a bad weight": ["mix", "--text", "much:a"],
    "a missing image": ["image-to-image", "b.png", "a"],
    "a folder": ["variation", "."],
    "no last frame": ["interpolate-frames", "--frames", "2", "--first", "a"],
    "an animated inpaint": ["inpaint", "a.png", "a.png", "a", "-o", "out.gif"],
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
    assert done.stderr.strip().endswith("file b.png does not exist")


def test_previews_stand_beside_the_output(gateway: RecordingGateway, folder: Path) -> None:
    gateway.events = [recording.preview(0, 5), recording.image(0, seed=1)]
    done = run(gateway, "text-to-image", "a", "--preview-every", "5", "-o", "b.png")
    assert done.exit_code == 0, done.output
    assert gateway.requests[0].events.preview_every == 5
    assert Image.open(folder / "b-0.preview.png").getpixel((0, 0)) == (255, 0, 0)
