"""What each flow refuses, by field, before any stage is asked; and odd images it takes."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure
from tests.gateway.messages import (
    FLOWS,
    SENT,
    WHITE,
    file,
    floats,
    latents,
    mix,
    request,
    tensor,
    text,
    variation,
)


def huge_header():
    """A PNG whose header says 60000x60000, and nothing more."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    return {"encoded": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc}


def without_its_palette():
    """A palette PNG without its PLTE chunk."""
    made = io.BytesIO()
    Image.new("P", (128, 64)).save(made, "PNG")
    data = made.getvalue()
    at = data.index(b"PLTE") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    return {"encoded": data[:at] + data[at + length :]}


RGB = Image.new("RGB", (128, 64), (200, 30, 40))
TRUNCATED = {"encoded": SENT["encoded"][:-40]}
ANIMATED = file(
    RGB, "WEBP", save_all=True, append_images=[Image.new("RGB", RGB.size, "white")], duration=50
)
IMAGE, INPAINT, OUTPAINT = "canvas.image", "canvas.inpaint", "canvas.outpaint"
MIX, FRAMES, DIFF = "guide.mix", "guide.interpolation", "guide.text_diff"

DAMAGED = {
    "none": ({}, ""),
    "no image file": ({"encoded": b"GIF89a"}, ".encoded"),
    "empty file": ({"encoded": b""}, ".encoded"),
    "truncated": (TRUNCATED, ".encoded"),
    "60000x60000 by its header": (huge_header(), ".encoded"),
    "animated": (ANIMATED, ".encoded"),
    "a palette image without a palette": (without_its_palette(), ".encoded"),
    "grey tensor": (tensor(np.zeros((64, 128), np.uint8)), ".pixels.shape"),
    "no pixels": (tensor(np.zeros((0, 128, 3), np.uint8)), ".pixels.shape"),
    "floats above 1": (tensor(np.full((64, 128, 3), 1.5, np.float32)), ".pixels.data"),
    "NaN": (tensor(np.full((64, 128, 3), np.nan, np.float32)), ".pixels.data"),
    "integers": (tensor(np.zeros((64, 128, 3), np.int32)), ".pixels.dtype"),
    "two tensors in one": (tensor(np.zeros((2, 3, 64, 128), np.float32)), ".pixels.shape"),
}
WHERE_IMAGES_ARE = {
    "text+image": f"{IMAGE}.images",
    "text+inpaint": f"{INPAINT}.images",
    "text+outpaint": f"{OUTPAINT}.images",
    "variation": "guide.image.images",
    "text_diff": f"{DIFF}.images",
}

BAD = {
    "image strength 0": ("text+image", {f"{IMAGE}.strength": 0}, [f"{IMAGE}.strength"]),
    "image strength NaN": ("text+image", {f"{IMAGE}.strength": math.nan}, [f"{IMAGE}.strength"]),
    "image strength 1.01": ("text+image", {f"{IMAGE}.strength": 1.01}, [f"{IMAGE}.strength"]),
    "image strength leaves no step": (
        "text+image",
        {f"{IMAGE}.strength": 0.1, "decoder.steps": 5},
        [f"{IMAGE}.strength"],
    ),
    "steps leave none to the default strength": (
        "text+image",
        {"decoder.steps": 3},
        ["decoder.steps"],
    ),
    "prior strength leaves no step": (
        "text+image",
        {"prior.start.strength": 0.1},
        ["prior.start.strength"],
    ),
    "prior start of a latent": (
        "text+image",
        {f"{IMAGE}.images": [latents(4, 8, 16)], "prior.start.strength": 0.5},
        [f"{IMAGE}.images[0]"],
    ),
    "prior start from a latent of its own": (
        "text",
        {"prior.start.images": [latents(4, 8, 16)]},
        ["prior.start.images[0].latents"],
    ),
    "prior start beside embeddings": (
        "embeddings",
        {"canvas.image.images": [SENT], "prior.start.strength": 0.5},
        ["prior.start"],
    ),
    "prior start from nothing": ("text", {"prior.start.strength": 0.5}, ["prior.start"]),
    "prior start from images and embeddings": (
        "text",
        {"prior.start": {"images": [SENT], "image_embeds": floats(1, 4)}},
        ["prior.start.image_embeds"],
    ),
    "three images for one prompt": (
        "text+image",
        {f"{IMAGE}.images": [SENT] * 3},
        [f"{IMAGE}.images"],
    ),
    "no image, and none of the guide": (
        "text+image",
        {f"{IMAGE}.images": None},
        [f"{IMAGE}.images"],
    ),
    "latent of rank 2": (
        "text+image",
        {f"{IMAGE}.images": [latents(8, 16)]},
        [f"{IMAGE}.images[0].latents.shape"],
    ),
    "floats of another size": (
        "text+image",
        {
            f"{IMAGE}.images": [tensor(np.zeros((64, 64, 3), np.float32))],
            "decoder": {"height": 64, "width": 128},
        },
        [f"{IMAGE}.images[0].pixels"],
    ),
    "tiny image": (
        "text+image",
        {f"{IMAGE}.images": [tensor(np.zeros((8, 8, 3), np.uint8))]},
        [f"{IMAGE}.images[0]"],
    ),
    "NaN embedding": (
        "embeddings",
        {
            "guide.embeddings.conditionings": [
                {"image_embed": floats(4, value=np.nan), "negative_image_embed": floats(4)}
            ]
        },
        ["guide.embeddings.conditionings[0].image_embed.data"],
    ),
    "inpaint without a mask": ("text+inpaint", {f"{INPAINT}.masks": None}, [f"{INPAINT}.masks"]),
    "inpaint crop to a black mask": (
        "text+inpaint",
        {
            f"{INPAINT}.masks": [tensor(np.zeros((64, 128), np.uint8))],
            f"{INPAINT}.padding_mask_crop": 3,
        },
        [f"{INPAINT}.masks[0]"],
    ),
    "mask of 0 and 1 as uint8": (
        "text+inpaint",
        {f"{INPAINT}.masks": [tensor(np.ones((64, 128), np.uint8))]},
        [f"{INPAINT}.masks[0].pixels.data"],
    ),
    "mask above 1": (
        "text+inpaint",
        {f"{INPAINT}.masks": [tensor(np.full((64, 128), 2, np.float32))]},
        [f"{INPAINT}.masks[0].pixels.data"],
    ),
    "mask of three channels": (
        "text+inpaint",
        {f"{INPAINT}.masks": [tensor(np.zeros((64, 128, 3), np.uint8))]},
        [f"{INPAINT}.masks[0].pixels.shape"],
    ),
    "latent mask": (
        "text+inpaint",
        {f"{INPAINT}.masks": [latents(1, 8, 16)]},
        [f"{INPAINT}.masks[0].latents"],
    ),
    "broken mask": (
        "text+inpaint",
        {f"{INPAINT}.masks": [TRUNCATED]},
        [f"{INPAINT}.masks[0].encoded"],
    ),
    "second mask broken": (
        "text+inpaint",
        {"guide": text("a", "b"), f"{INPAINT}.masks": [WHITE, TRUNCATED]},
        [f"{INPAINT}.masks[1].encoded"],
    ),
    "crop of a latent": (
        "text+inpaint",
        {f"{INPAINT}.images": [latents(4, 8, 16)], f"{INPAINT}.padding_mask_crop": 3},
        [f"{INPAINT}.padding_mask_crop"],
    ),
    "negative padding": (
        "text+inpaint",
        {f"{INPAINT}.padding_mask_crop": -1},
        [f"{INPAINT}.padding_mask_crop"],
    ),
    "crop as a latent": (
        "text+inpaint",
        {f"{INPAINT}.padding_mask_crop": 1, "output.format": 6},
        ["output.format"],
    ),
    "no margin": ("text+outpaint", {f"{OUTPAINT}.left": 0}, [f"{OUTPAINT}.top"]),
    "negative margin": ("text+outpaint", {f"{OUTPAINT}.left": -64}, [f"{OUTPAINT}.left"]),
    "margins that do not fit": (
        "text+outpaint",
        {f"{OUTPAINT}.left": 60, f"{OUTPAINT}.top": 3},
        [f"{OUTPAINT}.top", f"{OUTPAINT}.left"],
    ),
    "enormous margin": (
        "text+outpaint",
        {f"{OUTPAINT}.left": 2**31 - 1},
        [f"{OUTPAINT}.left"],
    ),
    "past the greatest size": (
        "text+outpaint",
        {f"{OUTPAINT}.left": 960},
        [f"{OUTPAINT}.left"],
    ),
    "margins that do not fit, and more": (
        "text+outpaint",
        {
            f"{OUTPAINT}.left": 60,
            "guide": text(" "),
            "seed": -1,
            f"{OUTPAINT}.strength": 0,
        },
        [f"{OUTPAINT}.left", "guide.text.prompts[0]", "seed", f"{OUTPAINT}.strength"],
    ),
    "outpaint to another height": (
        "text+outpaint",
        {"decoder": {"height": 128, "width": 192}},
        ["decoder.height"],
    ),
    "outpaint a latent": (
        "text+outpaint",
        {f"{OUTPAINT}.images": [latents(4, 8, 16)]},
        [f"{OUTPAINT}.images[0].latents"],
    ),
    "mix of nothing": ("mix", {"guide": mix()}, [f"{MIX}.sources"]),
    "mix of nine": ("mix", {"guide": mix(*[({"text": "a"}, 1)] * 9)}, [f"{MIX}.sources"]),
    "mix without a source": ("mix", {"guide": mix(({}, 1))}, [f"{MIX}.sources[0].source"]),
    "mix without a weight": (
        "mix",
        {"guide": mix(({"text": "a"}, None))},
        [f"{MIX}.sources[0].weight"],
    ),
    "mix of no weight": (
        "mix",
        {"guide": mix(({"text": "a"}, 0), ({"image": SENT}, 0))},
        [f"{MIX}.sources"],
    ),
    "mix of weight NaN": (
        "mix",
        {"guide": mix(({"text": "a"}, math.nan))},
        [f"{MIX}.sources[0].weight"],
    ),
    "mix of a negative weight on a sphere": (
        "mix",
        {
            "guide": mix(
                ({"text": "a"}, 1), ({"text": "b"}, -1), interpolation="INTERPOLATION_SPHERICAL"
            )
        },
        [f"{MIX}.sources"],
    ),
    "mix in an unknown way": ("mix", {f"{MIX}.interpolation": 7}, [f"{MIX}.interpolation"]),
    "mix of an empty text": (
        "mix",
        {"guide": mix(({"text": " "}, 1))},
        [f"{MIX}.sources[0].source.text"],
    ),
    "mix of a long text": (
        "mix",
        {"guide": mix(({"text": "a" * 41}, 1))},
        [f"{MIX}.sources[0].source.text"],
    ),
    "mix of a latent": (
        "mix",
        {"guide": mix(({"image": latents(4, 8, 16)}, 1))},
        [f"{MIX}.sources[0].source.image.latents"],
    ),
    "mix of a broken image": (
        "mix",
        {"guide": mix(({"text": "a"}, 1), ({"image": TRUNCATED}, 1))},
        [f"{MIX}.sources[1].source.image.encoded"],
    ),
    "mix of a NaN embedding": (
        "mix",
        {"guide": mix(({"image_embed": floats(4, value=np.nan)}, 1))},
        [f"{MIX}.sources[0].source.image_embed.data"],
    ),
    "mix of an embedding of rank 2": (
        "mix",
        {"guide": mix(({"image_embed": floats(1, 4)}, 1))},
        [f"{MIX}.sources[0].source.image_embed.shape"],
    ),
    "mix with two negatives": (
        "mix",
        {"negative": {"texts": ["x"], "image_embeds": floats(1, 4)}},
        ["negative.image_embeds"],
    ),
    "mix with a text that nobody reads": ("mix", {"decoder.texts": ["a"]}, ["decoder.texts"]),
    "mix with a negative text that nobody reads": (
        "mix",
        {"decoder.negative_texts": ["a"]},
        ["decoder.negative_texts"],
    ),
    "mix of images with prior steps": (
        "mix",
        {"guide": mix(({"image": SENT}, 1)), "prior.steps": 5},
        ["prior.steps"],
    ),
    "one frame": ("interpolation", {f"{FRAMES}.frames": 1}, [f"{FRAMES}.frames"]),
    "too many frames": ("interpolation", {f"{FRAMES}.frames": 9}, [f"{FRAMES}.frames"]),
    "frames without an end": ("interpolation", {f"{FRAMES}.last": None}, [f"{FRAMES}.last"]),
    "frames with images per prompt": (
        "interpolation",
        {"images_per_prompt": 2},
        ["images_per_prompt"],
    ),
    "latents a frame": (
        "interpolation",
        {"decoder.latents": floats(2, 4, 8, 16)},
        ["decoder.latents.shape"],
    ),
    "negatives of another count": (
        "variation",
        {"negative.image_embeds": floats(3, 4)},
        ["negative.image_embeds.shape"],
    ),
    "variation of too many": (
        "variation",
        {"guide": variation(*[SENT] * 9)},
        ["guide.image.images"],
    ),
    "control without a hint": ("text+control", {"control.hints": None}, ["control.hints"]),
    "hint below 0": (
        "text+control",
        {"control.hints": [tensor(np.full((64, 128, 3), -0.5, np.float32))]},
        ["control.hints[0].pixels.data"],
    ),
    "latent hint": (
        "text+control",
        {"control.hints": [latents(4, 8, 16)]},
        ["control.hints[0].latents"],
    ),
    "two hints for one prompt": (
        "text+control",
        {"control.hints": [SENT, SENT]},
        ["control.hints"],
    ),
    "text diff of a latent": (
        "text_diff",
        {f"{DIFF}.images": [latents(4, 8, 16)]},
        [f"{DIFF}.images[0].latents"],
    ),
    "text diff from nothing": ("text_diff", {f"{DIFF}.source": ""}, [f"{DIFF}.source"]),
    "text diff to the same": ("text_diff", {f"{DIFF}.target": "a"}, [f"{DIFF}.target"]),
    "text diff of amount 2": ("text_diff", {f"{DIFF}.amount": 2}, [f"{DIFF}.amount"]),
    "text diff of amount NaN": ("text_diff", {f"{DIFF}.amount": math.nan}, [f"{DIFF}.amount"]),
} | {
    f"{flow} {name}": (flow, {field: [image]}, [f"{field}[0]{path}"])
    for flow, field in WHERE_IMAGES_ARE.items()
    for name, (image, path) in DAMAGED.items()
}


@pytest.mark.parametrize(("flow", "changes", "fields"), BAD.values(), ids=BAD)
async def test_refused_by_field(api, stages, flow, changes, fields):
    bad, good = request(flow, changes), request(flow)
    error = await failure(api.Generate(bad))
    assert error.reason is Reason.INVALID_FIELD
    assert {violation.field for violation in error.violations} == set(fields)
    assert stages.calls == []
    assert (await failure(api.GenerateImages(bad))).violations == error.violations
    assert (await api.GenerateImages(good)).images


@pytest.mark.parametrize("flow", sorted(FLOWS.keys() - {"embeddings"}))
async def test_what_is_wrong_elsewhere_hides_no_other_violation(api, stages, flow):
    """A bad image or text, the settings, the seed and the noise are reported together."""
    part = {**WHERE_IMAGES_ARE, "text+control": "control.hints"}.get(flow, "negative.texts")
    fields = {
        part: ["x" * 41] if part == "negative.texts" else [{"encoded": b"GIF89a"}],
        "decoder.latents": floats(1),
        "seed": -1,
        "decoder.steps": 0,
        "output.quality": 90,
    }
    error = await failure(api.Generate(request(flow, fields)))
    assert {violation.field for violation in error.violations} == {
        f"{part}[0]" if part == "negative.texts" else f"{part}[0].encoded",
        "decoder.latents.shape",
        "seed",
        "decoder.steps",
        "output.quality",
    }
    assert stages.calls == []


TINY = tensor(np.zeros((1, 1, 3), np.uint8))
SENTENCES = {
    "a start too small": (
        "text+image",
        {f"{IMAGE}.images": [TINY]},
        "canvas.image.images[0]: is 1x1 pixels, and sides go from 64 to 1024; send another, or set "
        "decoder.height and decoder.width",
    ),
    "a hint too small": (
        "text+control",
        {"control.hints": [TINY]},
        "control.hints[0]: is 1x1 pixels, and sides go from 64 to 1024; send another, or set "
        "decoder.height and decoder.width",
    ),
    "masks for one prompt": (
        "text+inpaint",
        {f"{INPAINT}.masks": [WHITE] * 8},
        "canvas.inpaint.masks: there are 8 for 1 prompt; give 1",
    ),
    "images for two prompts": (
        "text+image",
        {"guide": text("a", "b"), f"{IMAGE}.images": [SENT] * 3},
        "canvas.image.images: there are 3 for 2 prompts; give 1 for all, or 2",
    ),
    "images for two prompts, with a prior that starts from them": (
        "text+image",
        {
            "guide": text("a", "b"),
            f"{IMAGE}.images": [SENT] * 3,
            "prior.start.strength": 0.5,
        },
        "canvas.image.images: there are 3 for 2 prompts; give 1 for all, or 2",
    ),
    "too many sources": (
        "mix",
        {"guide": mix(*[({"text": "a"}, 1)] * 9)},
        "guide.mix.sources: there are 9; the most is 8",
    ),
    "negatives of a variation": (
        "variation",
        {"negative.image_embeds": floats(3, 4)},
        "negative.image_embeds.shape: has 3 rows for 1 image; give 1",
    ),
    "a negative beside embeddings": (
        "embeddings",
        {"negative.texts": ["x"]},
        "negative: each conditioning of this guide has its own negative side",
    ),
    "widths that differ": (
        "mix",
        {
            "guide": mix(
                ({"image_embed": floats(4, value=1)}, 0.5),
                ({"image_embed": floats(5, value=1)}, 0.5),
            ),
            "decoder.guidance_scale": 1,
        },
        "guide.mix.sources[1].source.image_embed.shape: is 5 wide, "
        "guide.mix.sources[0].source.image_embed 4; embeddings of a model are of one width",
    ),
    "an outpainted canvas too large": (
        "text+outpaint",
        {f"{OUTPAINT}.left": 960},
        "canvas.outpaint.left: the canvas is 1088 pixels; sides go from 64 to 1024",
    ),
}


@pytest.mark.parametrize(("flow", "changes", "sentence"), SENTENCES.values(), ids=SENTENCES)
async def test_the_sentence(api, flow, changes, sentence):
    assert (await failure(api.Generate(request(flow, changes)))).message == sentence


async def test_an_embedding_of_another_width_than_the_others(api, stages):
    guide = mix(({"text": "a"}, 1), ({"image_embed": floats(5)}, 1))
    error = await failure(api.Generate(request("mix", guide=guide)))
    assert [v.field for v in error.violations] == [f"{MIX}.sources[1].source.image_embed.shape"]
    assert [call.method for call in stages.calls] == ["EncodeText"]


def stripes(size=(128, 64)):
    """Red over blue."""
    image = Image.new("RGB", size, (200, 0, 0))
    image.paste((0, 0, 200), (0, size[1] // 2, *size))
    return image


def rotated():
    """The same image, stored lying on its side with the tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(stripes().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


ODD = {
    "EXIF rotation": rotated(),
    "palette": file(stripes().quantize(4)),
    "transparency": file(stripes().convert("RGBA")),
    "CMYK": file(stripes().convert("CMYK"), "JPEG", quality=100),
}


@pytest.mark.parametrize("image", ODD.values(), ids=ODD)
async def test_odd_images_arrive_as_they_look(api, stages, image):
    await api.GenerateImages(request("text+image", {f"{IMAGE}.images": [image]}))
    sent = tensors.decode(stages.calls[-1].request.start.image.pixels, "pixels").astype(int)
    assert abs(sent - np.asarray(stripes(), int)).max() <= 8


async def test_a_image_of_sixteen_bits_is_scaled(api, stages):
    deep = Image.fromarray(np.full((64, 128), 0x8080, np.uint16))
    await api.GenerateImages(request("text+image", {f"{IMAGE}.images": [file(deep)]}))
    sent = tensors.decode(stages.calls[-1].request.start.image.pixels, "pixels")
    assert (sent == 0x80).all()


LAYOUTS = {
    "[3, H, W]": lambda pixels: pixels.transpose(2, 0, 1),
    "[1, 3, H, W]": lambda pixels: pixels.transpose(2, 0, 1)[None],
    "[1, H, W, 3]": lambda pixels: pixels[None],
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
async def test_pixels_of_every_layout(api, stages, layout, dtype):
    """As torch has an image, and as numpy does."""
    pixels = np.random.default_rng(0).integers(0, 2, (64, 128, 3)).astype(dtype)
    await api.GenerateImages(request("text+image", {f"{IMAGE}.images": [tensor(layout(pixels))]}))
    sent = tensors.decode(stages.calls[-1].request.start.image.pixels, "pixels")
    assert sent.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(sent, pixels)


LEFT_WHITE = np.zeros((64, 128), np.uint8)
LEFT_WHITE[:, :64] = 255
MASKS = {
    "[H, W] uint8": tensor(LEFT_WHITE),
    "[1, H, W] bool": tensor(LEFT_WHITE[None] > 0),
    "[1, 1, H, W] float": tensor((LEFT_WHITE[None, None] / 255).astype(np.float32)),
    "[H, W, 1] float": tensor((LEFT_WHITE[:, :, None] / 255 * 0.6).astype(np.float64)),
    "grey file": file(Image.fromarray(LEFT_WHITE)),
    "RGB file": file(Image.fromarray(LEFT_WHITE).convert("RGB")),
    "16-bit file": file(Image.fromarray(LEFT_WHITE.astype(np.uint16) * 257)),
    "of another size": tensor(np.repeat(np.repeat(LEFT_WHITE, 3, 0), 2, 1)),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
async def test_masks_of_every_shape(api, stages, mask):
    await api.GenerateImages(request("text+inpaint", {f"{INPAINT}.masks": [mask]}))
    sent = tensors.decode(stages.calls[-1].request.start.inpaint.mask, "mask")
    np.testing.assert_array_equal(sent >= 128, LEFT_WHITE == 255)


async def test_a_black_mask_keeps_everything(api, stages):
    await api.GenerateImages(
        request("text+inpaint", {f"{INPAINT}.masks": [tensor(np.zeros((64, 128), np.uint8))]})
    )
    sent = tensors.decode(stages.calls[-1].request.start.inpaint.mask, "mask")
    assert not sent.any()
