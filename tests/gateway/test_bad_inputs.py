"""What each flow refuses, by field, before any stage is asked; and odd pictures it takes."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure


def file(image, format="PNG", **options):
    made = io.BytesIO()
    image.save(made, format, **options)
    return {"encoded": made.getvalue()}


def tensor(array):
    return {"pixels": tensors.encode(np.asarray(array))}


def latents(*shape):
    return {"latents": tensors.encode(np.zeros(shape, np.float32))}


def floats(*shape, value=0.0):
    return tensors.encode(np.full(shape, value, np.float32))


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
PICTURE = file(RGB)
TRUNCATED = {"encoded": PICTURE["encoded"][:-40]}
ANIMATED = file(
    RGB, "WEBP", save_all=True, append_images=[Image.new("RGB", RGB.size, "white")], duration=50
)
WHITE = tensor(np.full((64, 128), 255, np.uint8))

GOOD = {
    "Mix": {"conditions": [{"text": "a", "weight": 1}]},
    "InterpolateFrames": {"first": {"text": "a"}, "last": {"text": "b"}, "frames": 2},
    "ImageToImage": {"prompts": ["a"], "image": PICTURE},
    "Inpaint": {"prompts": ["a"], "image": PICTURE, "mask": WHITE},
    "Outpaint": {"prompts": ["a"], "image": PICTURE, "left": 64},
    "Variation": {"image": PICTURE},
    "Control": {"prompts": ["a"], "hint": PICTURE},
    "TextGuidedEdit": {"image": PICTURE, "source_prompt": "a", "target_prompt": "b"},
}

PICTURES = {
    "none": ({}, ""),
    "no picture": ({"encoded": b"GIF89a"}, ".encoded"),
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
TAKES_PICTURES = {"ImageToImage", "Inpaint", "Outpaint", "Variation", "TextGuidedEdit"}

BAD = {
    "ImageToImage strength 0": ("ImageToImage", {"strength": 0}, ["strength"]),
    "ImageToImage strength NaN": ("ImageToImage", {"strength": math.nan}, ["strength"]),
    "ImageToImage strength 1.01": ("ImageToImage", {"strength": 1.01}, ["strength"]),
    "ImageToImage strength leaves no step": (
        "ImageToImage",
        {"strength": 0.1, "settings": {"steps": 5}},
        ["strength"],
    ),
    "ImageToImage steps leave none to the default strength": (
        "ImageToImage",
        {"settings": {"steps": 3}},
        ["settings.steps"],
    ),
    "ImageToImage prior strength leaves no step": (
        "ImageToImage",
        {"prior_strength": 0.1},
        ["prior_strength"],
    ),
    "ImageToImage prior strength of a latent": (
        "ImageToImage",
        {"image": latents(4, 8, 16), "prior_strength": 0.5},
        ["image"],
    ),
    "ImageToImage prior strength beside embeddings": (
        "ImageToImage",
        {
            "prompts": [],
            "image_embeds": floats(1, 4),
            "negative_image_embeds": floats(1, 4),
            "prior_strength": 0.5,
        },
        ["prior_strength"],
    ),
    "ImageToImage three pictures for one prompt": (
        "ImageToImage",
        {"image": None, "images": [PICTURE] * 3},
        ["images"],
    ),
    "ImageToImage picture and pictures": ("ImageToImage", {"images": [PICTURE]}, ["images"]),
    "ImageToImage latent of rank 2": (
        "ImageToImage",
        {"image": latents(8, 16)},
        ["image.latents.shape"],
    ),
    "ImageToImage floats of another size": (
        "ImageToImage",
        {
            "image": tensor(np.zeros((64, 64, 3), np.float32)),
            "settings": {"height": 64, "width": 128},
        },
        ["image.pixels"],
    ),
    "ImageToImage tiny picture": (
        "ImageToImage",
        {"image": tensor(np.zeros((8, 8, 3), np.uint8))},
        ["image"],
    ),
    "ImageToImage NaN embedding": (
        "ImageToImage",
        {
            "prompts": [],
            "image_embeds": floats(1, 4, value=np.nan),
            "negative_image_embeds": floats(1, 4),
        },
        ["image_embeds.data"],
    ),
    "Inpaint no mask": ("Inpaint", {"mask": None}, ["mask"]),
    "Inpaint crop to a black mask": (
        "Inpaint",
        {"mask": tensor(np.zeros((64, 128), np.uint8)), "padding_mask_crop": 3},
        ["mask"],
    ),
    "Inpaint mask of 0 and 1 as uint8": (
        "Inpaint",
        {"mask": tensor(np.ones((64, 128), np.uint8))},
        ["mask.pixels.data"],
    ),
    "Inpaint mask above 1": (
        "Inpaint",
        {"mask": tensor(np.full((64, 128), 2, np.float32))},
        ["mask.pixels.data"],
    ),
    "Inpaint mask of three channels": (
        "Inpaint",
        {"mask": tensor(np.zeros((64, 128, 3), np.uint8))},
        ["mask.pixels.shape"],
    ),
    "Inpaint latent mask": ("Inpaint", {"mask": latents(1, 8, 16)}, ["mask"]),
    "Inpaint broken mask": ("Inpaint", {"mask": TRUNCATED}, ["mask.encoded"]),
    "Inpaint second mask broken": (
        "Inpaint",
        {"prompts": ["a", "b"], "mask": None, "masks": [WHITE, TRUNCATED]},
        ["masks[1].encoded"],
    ),
    "Inpaint crop of a latent": (
        "Inpaint",
        {"image": latents(4, 8, 16), "padding_mask_crop": 3},
        ["padding_mask_crop"],
    ),
    "Inpaint negative padding": ("Inpaint", {"padding_mask_crop": -1}, ["padding_mask_crop"]),
    "Inpaint crop as a latent": (
        "Inpaint",
        {"padding_mask_crop": 1, "settings": {"output_format": 6}},
        ["settings.output_format"],
    ),
    "Outpaint no margin": ("Outpaint", {"left": 0}, ["top"]),
    "Outpaint negative margin": ("Outpaint", {"left": -64}, ["left"]),
    "Outpaint margins that do not fit": ("Outpaint", {"left": 60, "top": 3}, ["top", "left"]),
    "Outpaint enormous margin": ("Outpaint", {"left": 2**31 - 1}, ["left"]),
    "Outpaint past the greatest size": ("Outpaint", {"left": 960}, ["left"]),
    "Outpaint margins that do not fit, and more": (
        "Outpaint",
        {"left": 60, "prompts": [" "], "settings": {"seed": -1}, "strength": 0},
        ["left", "prompts[0]", "settings.seed", "strength"],
    ),
    "Outpaint another height": (
        "Outpaint",
        {"settings": {"height": 128, "width": 192}},
        ["settings.height"],
    ),
    "Outpaint a latent": ("Outpaint", {"image": latents(4, 8, 16)}, ["image.latents"]),
    "Mix of nothing": ("Mix", {"conditions": []}, ["conditions"]),
    "Mix of nine": ("Mix", {"conditions": [{"text": "a", "weight": 1}] * 9}, ["conditions"]),
    "Mix without a source": ("Mix", {"conditions": [{"weight": 1}]}, ["conditions[0]"]),
    "Mix without a weight": ("Mix", {"conditions": [{"text": "a"}]}, ["conditions[0].weight"]),
    "Mix of no weight": (
        "Mix",
        {"conditions": [{"text": "a", "weight": 0}, {"image": PICTURE, "weight": 0}]},
        ["conditions"],
    ),
    "Mix of weight NaN": (
        "Mix",
        {"conditions": [{"text": "a", "weight": math.nan}]},
        ["conditions[0].weight"],
    ),
    "Mix of a negative weight on a sphere": (
        "Mix",
        {
            "conditions": [{"text": "a", "weight": 1}, {"text": "b", "weight": -1}],
            "interpolation": "INTERPOLATION_SPHERICAL",
        },
        ["conditions"],
    ),
    "Mix in an unknown way": ("Mix", {"interpolation": 7}, ["interpolation"]),
    "Mix of an empty text": (
        "Mix",
        {"conditions": [{"text": " ", "weight": 1}]},
        ["conditions[0].text"],
    ),
    "Mix of a long text": (
        "Mix",
        {"conditions": [{"text": "a" * 41, "weight": 1}]},
        ["conditions[0].text"],
    ),
    "Mix of a latent": (
        "Mix",
        {"conditions": [{"image": latents(4, 8, 16), "weight": 1}]},
        ["conditions[0].image.latents"],
    ),
    "Mix of a broken picture": (
        "Mix",
        {"conditions": [{"text": "a", "weight": 1}, {"image": TRUNCATED, "weight": 1}]},
        ["conditions[1].image.encoded"],
    ),
    "Mix of a NaN embedding": (
        "Mix",
        {"conditions": [{"image_embed": floats(4, value=np.nan), "weight": 1}]},
        ["conditions[0].image_embed.data"],
    ),
    "Mix of an embedding of rank 2": (
        "Mix",
        {"conditions": [{"image_embed": floats(1, 4), "weight": 1}]},
        ["conditions[0].image_embed.shape"],
    ),
    "Mix with two negatives": (
        "Mix",
        {"negative_prompt": "x", "negative_image_embed": floats(4)},
        ["negative_image_embed"],
    ),
    "Mix with a prompt that nobody reads": ("Mix", {"prompt": "a"}, ["prompt"]),
    "Mix of pictures with prior steps": (
        "Mix",
        {
            "conditions": [{"image": PICTURE, "weight": 1}],
            "settings": {"prior_steps": 5},
        },
        ["settings.prior_steps"],
    ),
    "InterpolateFrames of one": ("InterpolateFrames", {"frames": 1}, ["frames"]),
    "InterpolateFrames of too many": ("InterpolateFrames", {"frames": 9}, ["frames"]),
    "InterpolateFrames without an end": ("InterpolateFrames", {"last": None}, ["last"]),
    "InterpolateFrames with images per prompt": (
        "InterpolateFrames",
        {"settings": {"images_per_prompt": 2}},
        ["settings.images_per_prompt"],
    ),
    "InterpolateFrames latents a frame": (
        "InterpolateFrames",
        {"latents": floats(2, 4, 8, 16)},
        ["latents.shape"],
    ),
    "Variation negatives of another count": (
        "Variation",
        {"negative_image_embeds": floats(3, 4)},
        ["negative_image_embeds.shape"],
    ),
    "Variation of too many": ("Variation", {"image": None, "images": [PICTURE] * 9}, ["images"]),
    "Control without a hint": ("Control", {"hint": None}, ["hint"]),
    "Control hint below 0": (
        "Control",
        {"hint": tensor(np.full((64, 128, 3), -0.5, np.float32))},
        ["hint.pixels.data"],
    ),
    "Control latent hint": ("Control", {"hint": latents(4, 8, 16)}, ["hint.latents"]),
    "Control strength without an image": ("Control", {"strength": 0.5}, ["strength"]),
    "Control two hints for one prompt": (
        "Control",
        {"hint": None, "hints": [PICTURE, PICTURE]},
        ["hints"],
    ),
    "TextGuidedEdit of a latent": (
        "TextGuidedEdit",
        {"image": latents(4, 8, 16)},
        ["image.latents"],
    ),
    "TextGuidedEdit from nothing": ("TextGuidedEdit", {"source_prompt": ""}, ["source_prompt"]),
    "TextGuidedEdit to the same": ("TextGuidedEdit", {"target_prompt": "a"}, ["target_prompt"]),
    "TextGuidedEdit amount 2": ("TextGuidedEdit", {"amount": 2}, ["amount"]),
    "TextGuidedEdit amount NaN": ("TextGuidedEdit", {"amount": math.nan}, ["amount"]),
} | {
    f"{flow} {name}": (flow, {"image": picture}, ["image" + path])
    for flow in sorted(TAKES_PICTURES)
    for name, (picture, path) in PICTURES.items()
}


def request(flow, **changes):
    fields = {**GOOD[flow], **changes}
    return getattr(generation, f"{flow}Request")(
        model="tiny", **{name: value for name, value in fields.items() if value is not None}
    )


@pytest.mark.parametrize(("flow", "changes", "fields"), BAD.values(), ids=BAD)
async def test_refused_by_field(api, stages, flow, changes, fields):
    error = await failure(getattr(api, flow)(request(flow, **changes)))
    assert error.reason is Reason.INVALID_FIELD
    assert {violation.field for violation in error.violations} == set(fields)
    assert stages.calls == []
    assert (await getattr(api, f"{flow}Unary")(request(flow))).images


@pytest.mark.parametrize("flow", GOOD)
async def test_what_is_wrong_elsewhere_hides_no_other_violation(api, stages, flow):
    """A bad image or text, the settings, the seed and the noise are reported together."""
    part = "image" if flow in TAKES_PICTURES else {"Control": "hint"}.get(flow, "negative_prompt")
    fields = {
        part: "x" * 41 if part == "negative_prompt" else {"encoded": b"GIF89a"},
        "latents": floats(1),
        "settings": {"seed": -1, "steps": 0, "output_quality": 90},
    }
    error = await failure(getattr(api, flow)(request(flow, **fields)))
    assert {violation.field for violation in error.violations} == {
        part if part == "negative_prompt" else f"{part}.encoded",
        "latents.shape",
        "settings.seed",
        "settings.steps",
        "settings.output_quality",
    }
    assert stages.calls == []


TINY = tensor(np.zeros((1, 1, 3), np.uint8))
SENTENCES = {
    "a start too small": (
        "ImageToImage",
        {"image": TINY},
        "image: is 1x1 pixels, and sides go from 64 to 1024; send another, or set "
        "settings.height and settings.width",
    ),
    "a hint too small": (
        "Control",
        {"hint": TINY},
        "hint: is 1x1 pixels, and sides go from 64 to 1024; send another, or set "
        "settings.height and settings.width",
    ),
    "masks for one prompt": (
        "Inpaint",
        {"mask": None, "masks": [WHITE] * 8},
        "masks: there are 8 for 1 prompt; give 1",
    ),
    "images for two prompts": (
        "ImageToImage",
        {"prompts": ["a", "b"], "image": None, "images": [PICTURE] * 3},
        "images: there are 3 for 2 prompts; give 1 for all, or 2",
    ),
    "images for two prompts, with a prior that starts from them": (
        "ImageToImage",
        {
            "prompts": ["a", "b"],
            "image": None,
            "images": [PICTURE] * 3,
            "prior_strength": 0.5,
        },
        "images: there are 3 for 2 prompts; give 1 for all, or 2",
    ),
    "too many conditions": (
        "Mix",
        {"conditions": [{"text": "a", "weight": 1}] * 9},
        "conditions: there are 9; the most is 8",
    ),
    "negatives of a variation": (
        "Variation",
        {"negative_image_embeds": floats(3, 4)},
        "negative_image_embeds.shape: has 3 rows for 1 image; give 1",
    ),
    "widths that differ": (
        "Mix",
        {
            "conditions": [
                {"image_embed": floats(4, value=1), "weight": 0.5},
                {"image_embed": floats(5, value=1), "weight": 0.5},
            ],
            "settings": {"guidance_scale": 1},
        },
        "conditions[1].image_embed.shape: is 5 wide, conditions[0].image_embed 4; embeddings of a "
        "model are of one width",
    ),
    "an outpainted canvas too large": (
        "Outpaint",
        {"left": 960},
        "left: the canvas is 1088 pixels; sides go from 64 to 1024",
    ),
}


@pytest.mark.parametrize(("flow", "changes", "sentence"), SENTENCES.values(), ids=SENTENCES)
async def test_the_sentence(api, flow, changes, sentence):
    assert (await failure(getattr(api, flow)(request(flow, **changes)))).message == sentence


async def test_an_embedding_of_another_width_than_the_others(api, stages):
    conditions = [{"text": "a", "weight": 1}, {"image_embed": floats(5), "weight": 1}]
    error = await failure(api.Mix(request("Mix", conditions=conditions)))
    assert [v.field for v in error.violations] == ["conditions[1].image_embed.shape"]
    assert [call.method for call in stages.calls] == ["EncodeText"]


def stripes(size=(128, 64)):
    """Red over blue."""
    image = Image.new("RGB", size, (200, 0, 0))
    image.paste((0, 0, 200), (0, size[1] // 2, *size))
    return image


def rotated():
    """The same picture, stored lying on its side with the tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(stripes().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


ODD = {
    "EXIF rotation": rotated(),
    "palette": file(stripes().quantize(4)),
    "transparency": file(stripes().convert("RGBA")),
    "CMYK": file(stripes().convert("CMYK"), "JPEG", quality=100),
}


@pytest.mark.parametrize("picture", ODD.values(), ids=ODD)
async def test_odd_pictures_arrive_as_they_look(api, stages, picture):
    await api.ImageToImageUnary(request("ImageToImage", image=picture))
    sent = tensors.decode(stages.calls[-1].request.canvas.image.pixels, "pixels").astype(int)
    assert abs(sent - np.asarray(stripes(), int)).max() <= 8


async def test_a_picture_of_sixteen_bits_is_scaled(api, stages):
    deep = Image.fromarray(np.full((64, 128), 0x8080, np.uint16))
    await api.ImageToImageUnary(request("ImageToImage", image=file(deep)))
    sent = tensors.decode(stages.calls[-1].request.canvas.image.pixels, "pixels")
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
    await api.ImageToImageUnary(request("ImageToImage", image=tensor(layout(pixels))))
    sent = tensors.decode(stages.calls[-1].request.canvas.image.pixels, "pixels")
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
    await api.InpaintUnary(request("Inpaint", mask=mask))
    sent = tensors.decode(stages.calls[-1].request.canvas.masked_image.mask, "mask")
    np.testing.assert_array_equal(sent >= 128, LEFT_WHITE == 255)


async def test_a_black_mask_keeps_everything(api, stages):
    await api.InpaintUnary(request("Inpaint", mask=tensor(np.zeros((64, 128), np.uint8))))
    sent = tensors.decode(stages.calls[-1].request.canvas.masked_image.mask, "mask")
    assert not sent.any()
