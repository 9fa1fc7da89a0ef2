"""Every flow's method of both clients: the request that goes out, as data."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kandinsky import AsyncClient, Client, KandinskyError
from kandinsky.client import Embedding, Generated, Latents, requests, save_animation
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import images, tensors
from tests.kandinsky import recording
from tests.kandinsky.recording import RED, RecordingGateway

FILE = b"a picture file"
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
HOLE = np.eye(4, dtype=bool)[None]
VECTOR = np.arange(4, dtype=np.float32)
LATENT = np.zeros((4, 2, 2), np.float32)
PICTURE = {"encoded": FILE}

CALLS = {
    "mix": (
        "mix",
        (["a", FILE, Embedding(VECTOR)], [0.5, 0.25, -1]),
        {
            "interpolation": "spherical",
            "negative_prompt": "x",
            "negative_prior_prompt": "y",
            "prompt": "z",
            "negative_image_embed": VECTOR,
            "seed": 3,
        },
        generation.MixRequest(
            conditions=[
                {"text": "a", "weight": 0.5},
                {"image": PICTURE, "weight": 0.25},
                {"image_embed": tensors.encode(VECTOR), "weight": -1},
            ],
            interpolation="INTERPOLATION_SPHERICAL",
            negative_prompt="x",
            negative_prior_prompt="y",
            prompt="z",
            negative_image_embed=tensors.encode(VECTOR),
            settings={"seed": 3},
        ),
    ),
    "frames": (
        "interpolate_frames",
        ("a", PIXELS, 7),
        {"latents": LATENT, "interpolation": "linear"},
        generation.InterpolateFramesRequest(
            first={"text": "a"},
            last={"image": {"pixels": tensors.encode(PIXELS)}},
            frames=7,
            latents=tensors.encode(LATENT),
            interpolation="INTERPOLATION_LINEAR",
        ),
    ),
    "frames, spherical": (
        "interpolate_frames",
        ("a", "b", 2),
        {"interpolation": "spherical"},
        generation.InterpolateFramesRequest(
            first={"text": "a"},
            last={"text": "b"},
            frames=2,
            interpolation="INTERPOLATION_SPHERICAL",
        ),
    ),
    "image to image": (
        "image_to_image",
        (Latents(LATENT), "a"),
        {"strength": 0.5, "prior_strength": 0.25, "negative_prompts": "x"},
        generation.ImageToImageRequest(
            image={"latents": tensors.encode(LATENT)},
            prompts=["a"],
            negative_prompts=["x"],
            strength=0.5,
            prior_strength=0.25,
        ),
    ),
    "inpaint, a picture and a mask each": (
        "inpaint",
        ([FILE, PIXELS], [HOLE, FILE], ["a", "b"]),
        {"padding_mask_crop": 0, "scheduler": "ddim", "eta": 0.5, "progress_every": 2},
        generation.InpaintRequest(
            images=[PICTURE, {"pixels": tensors.encode(PIXELS)}],
            masks=[{"pixels": tensors.encode(HOLE)}, PICTURE],
            prompts=["a", "b"],
            padding_mask_crop=0,
            settings={"scheduler": "ddim", "eta": 0.5, "progress_every": 2},
        ),
    ),
    "outpaint": (
        "outpaint",
        (FILE, "a"),
        {"left": 64, "bottom": 32, "image_embeds": VECTOR[None]},
        generation.OutpaintRequest(
            image=PICTURE,
            prompts=["a"],
            left=64,
            bottom=32,
            image_embeds=tensors.encode(VECTOR[None]),
        ),
    ),
    "variation": (
        "variation",
        (FILE,),
        {"images_per_prompt": 2, "output_format": "webp"},
        generation.VariationRequest(
            image=PICTURE,
            settings={"images_per_prompt": 2, "output_format": "OUTPUT_FORMAT_WEBP"},
        ),
    ),
    "control": (
        "control",
        (FILE, "a"),
        {"image": [FILE, FILE], "model": "tiny"},
        generation.ControlRequest(
            model="tiny", hint=PICTURE, prompts=["a"], images=[PICTURE, PICTURE]
        ),
    ),
    "text-guided edit": (
        "text_guided_edit",
        (FILE, "a", "b"),
        {"amount": 0.25, "strength": 0.5},
        generation.TextGuidedEditRequest(
            image=PICTURE, source_prompt="a", target_prompt="b", amount=0.25, strength=0.5
        ),
    ),
}


def call_sync(address: str, method: str, args: Any, options: Any) -> list[Generated]:
    with Client(address) as client:
        return getattr(client, method)(*args, **options)


def call_async(address: str, method: str, args: Any, options: Any) -> list[Generated]:
    async def call() -> list[Generated]:
        async with AsyncClient(address) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(call())


@pytest.mark.parametrize("call", [call_sync, call_async])
@pytest.mark.parametrize(("method", "args", "options", "expected"), CALLS.values(), ids=CALLS)
def test_the_request(
    gateway: RecordingGateway, call: Any, method: str, args: Any, options: Any, expected: Any
) -> None:
    [image] = call(gateway.address, method, args, options)
    assert image.seed == 7
    if not expected.model:
        expected = type(expected).FromString(expected.SerializeToString())
        expected.model = "shapes"
    assert gateway.requests == [expected]


def sent(picture: Any) -> generation.InputImage:
    return requests.variation(picture).image


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILE)
    assert sent(tmp_path / "a.png").encoded == FILE


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16"])
def test_a_pil_image_goes_as_a_png(mode: str) -> None:
    image = Image.new("I;16", (3, 2)) if mode == "I;16" else Image.new("RGB", (3, 2), "red")
    image = image if mode == "I;16" else image.convert(mode)
    read = Image.open(io.BytesIO(sent(image).encoded))
    assert (read.format, read.size) == ("PNG", (3, 2))
    if mode in ("RGB", "RGBA", "CMYK"):
        near = np.asarray(read.convert("RGB")).astype(int) - np.asarray(image.convert("RGB"))
        assert abs(near).max() <= 2


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_stay_sixteen(mode: str) -> None:
    values = np.array([[0, 1000, 40_000, 65_535]], ">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (4, 1), values.tobytes())
    [levels] = images.decode(sent(image).encoded, "image")[..., 0].tolist()
    assert levels == [0, 4, 156, 255]


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_transparency_goes_along(mode: str) -> None:
    image = Image.new("LA", (3, 2), (90, 0))
    image = image.convert("RGBA").convert(mode) if mode != "La" else image.convert(mode)
    assert Image.open(io.BytesIO(sent(image).encoded)).convert("RGBA").getpixel((0, 0))[3] == 0


@pytest.mark.parametrize("mode", ["I", "F", "I;16L"])
def test_a_pil_image_that_would_be_clipped_is_refused(mode: str) -> None:
    """Pillow would clip it to 0 to 255: a depth map in metres becomes nearly black."""
    with pytest.raises(KandinskyError, match=f"of mode {mode}, .* mode I;16"):
        requests.control(Image.new(mode, (3, 2), 700), "a")


def test_an_orientation_goes_along() -> None:
    image = Image.new("RGB", (3, 2))
    image.getexif()[0x0112] = 6
    assert Image.open(io.BytesIO(sent(image).encoded)).getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: requests.mix(["a", "b"], [1]), "weights"),
        (lambda: requests.mix(["a"], ["much"]), "conditions[0].weight"),
        (lambda: requests.mix(["a"], [1], interpolation="cubic"), "interpolation"),
        (lambda: requests.mix([Embedding(np.array(["a"]))], [1]), "conditions[0].image_embed"),
        (lambda: requests.variation("picture.png"), "image"),
        (lambda: requests.variation([FILE, object()]), "images[1].pixels"),
        (lambda: requests.inpaint(FILE, np.array(["a"]), "a"), "mask.pixels"),
        (lambda: requests.image_to_image(FILE, "a", strength="half"), "strength"),
        (lambda: requests.outpaint(FILE, "a", left=1.5), "left"),
        (lambda: requests.interpolate_frames("a", "b", 2**40), "frames"),
    ],
)
def test_what_fits_no_field_is_refused(make: Any, field: str) -> None:
    with pytest.raises(KandinskyError) as caught:
        make()
    assert [violation.field for violation in caught.value.violations] == [field]


def test_an_option_of_another_flow_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="Variation has no option strength"):
        requests.variation(FILE, strength=0.5)


def frame(index: int, level: int) -> Generated:
    pixels = np.full((4, 6, 3), level, np.uint8)
    return Generated(index, 7, "pixels", 0.1, {}, tensor=pixels)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("loop", [True, False])
def test_an_animation_has_every_frame_in_order(tmp_path: Path, suffix: str, loop: bool) -> None:
    path = tmp_path / f"out{suffix}"
    frames = [frame(index, level) for index, level in ((2, 200), (0, 10), (1, 90))]
    save_animation(frames, path, seconds_a_frame=0.2, loop=loop)
    with Image.open(path) as moving:
        moving.load()
        assert moving.n_frames == 3
        assert moving.info["duration"] == 200
        assert (moving.info.get("loop", 1) == 0) is loop
        for index, level in enumerate((10, 90, 200)):
            moving.seek(index)
            assert abs(int(np.asarray(moving.convert("RGB"))[0, 0, 0]) - level) <= 1


def test_what_is_no_animation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        save_animation([frame(0, 0)], tmp_path / "out.png")
    with pytest.raises(ValueError, match="at least one"):
        save_animation([], tmp_path / "out.gif")


def test_a_stream_takes_any_request(gateway: RecordingGateway) -> None:
    gateway.events = [recording.picture(0, seed=1)]
    with Client(gateway.address) as client:
        [image] = client.stream(requests.variation(RED))
    assert isinstance(image, Generated)
    assert isinstance(gateway.requests[0], generation.VariationRequest)


def test_how_many_weights_are_wanted_is_said_of_one_condition_too() -> None:
    with pytest.raises(KandinskyError) as refused:
        requests.mix(["a"], [1, 2])
    assert refused.value.message == "weights: there are 2; give one for each condition, 1 in all"
