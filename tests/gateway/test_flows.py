"""Every flow beside text to image: its stage calls, in order, as data."""

import numpy as np
import pytest

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import images, tensors
from tests.gateway.recorded import decode, encode, recorded, sample, see


def pixels(level, height=64, width=128):
    return np.full((height, width, 3), level, np.uint8)


def picture(level, height=64, width=128):
    return {"encoded": images.encode(pixels(level, height, width), "png")}


def tensor(array):
    return {"pixels": tensors.encode(array)}


def mask(height=64, width=128):
    values = np.zeros((height, width), np.uint8)
    values[:, width // 2 :] = 255
    return tensor(values)


def latents(shape=(4, 8, 16)):
    return {"latents": tensors.encode(np.zeros(shape, np.float32))}


def embed(value):
    return tensors.encode(np.full(4, value, np.float32))


def asked(flow, **fields):
    settings = {"seed": 100, **fields.pop("settings", {})}
    message = getattr(generation, f"{flow}Request")
    return flow, message(**{"model": "tiny", "settings": settings, **fields})


A, AN_A = sample("text 'a'", "text ''", 100), "image of text 'a'"
REPAINTED = {"start": "masked_image", "size": (64, 128)}
NOISED = {"start": "image", "size": (64, 128)}

FLOWS = {
    "mix of a text and a picture": (
        asked(
            "Mix",
            conditions=[{"text": "a", "weight": 0.5}, {"image": picture(7), "weight": 0.5}],
        ),
        [encode("a", ""), see(7), A, decode("a blend", "zero", 100)],
    ),
    "mix of one picture": (
        asked("Mix", conditions=[{"image": picture(7), "weight": 1}]),
        [see(7), decode("picture 7", "zero", 100)],
    ),
    "mix of embeddings asks for the zero embedding": (
        asked("Mix", conditions=[{"image_embed": embed(2), "weight": w} for w in (0.5, 0.6)]),
        [encode(""), decode("a blend", "zero", 100)],
    ),
    "mix: a condition of no weight is not sampled": (
        asked("Mix", conditions=[{"text": "a", "weight": 1}, {"text": "b", "weight": 0}]),
        [encode("a", "b", ""), A, decode(AN_A, "zero", 100)],
    ),
    "mix with a negative prompt": (
        asked("Mix", conditions=[{"text": "a", "weight": 1}], negative_prompt="x"),
        [
            encode("a", "x", ""),
            A,
            sample("text 'x'", "text ''", 100),
            decode(AN_A, "image of text 'x'", 100),
        ],
    ),
    "mix with a negative prompt of the prior": (
        asked("Mix", conditions=[{"text": "a", "weight": 1}], negative_prior_prompt="y"),
        [
            encode("a", "y"),
            sample("text 'a'", "text 'y'", 100),
            sample("text 'y'", "text 'y'", 100),
            decode(AN_A, "image of text 'y'", 100),
        ],
    ),
    "mix with a negative embedding": (
        asked(
            "Mix",
            conditions=[{"text": "a", "weight": 1}],
            negative_image_embed=embed(3),
            settings={"images_per_prompt": 2},
        ),
        [
            encode("a", ""),
            A,
            sample("text 'a'", "text ''", 101),
            decode(AN_A, "a blend", 100),
            decode(AN_A, "a blend", 101),
        ],
    ),
    "frames sample each end once": (
        asked("InterpolateFrames", first={"text": "a"}, last={"text": "b"}, frames=3),
        [
            encode("a", "b", ""),
            A,
            sample("text 'b'", "text ''", 100),
            decode(AN_A, "zero", 100),
            decode("a blend", "zero", 100),
            decode("image of text 'b'", "zero", 100),
        ],
    ),
    "image to image": (
        asked("ImageToImage", prompts=["a"], image=picture(7), strength=0.5),
        [encode("a", ""), A, decode(AN_A, "zero", 100, pixels=7, strength=0.5, **NOISED)],
    ),
    "image to image of a larger picture keeps its size": (
        asked("ImageToImage", prompts=["a"], image=picture(7, 130, 200), strength=0.5),
        [
            encode("a", ""),
            A,
            decode(AN_A, "zero", 100, start="image", pixels=7, strength=0.5, size=(128, 192)),
        ],
    ),
    "image to image of a latent, no guidance": (
        asked(
            "ImageToImage",
            prompts=["a"],
            image=latents(),
            settings={"guidance_scale": 1, "prior_guidance_scale": 1},
        ),
        [
            encode("a"),
            sample("text 'a'", None, 100),
            decode(AN_A, None, 100, pixels="latents", strength=0.3, **NOISED),
        ],
    ),
    "image to image, a picture each, the prior starts from it": (
        asked(
            "ImageToImage",
            prompts=["a", "b"],
            negative_prompts=["", "x"],
            images=[picture(7), picture(8)],
            prior_strength=0.5,
        ),
        [
            encode("a", "b", "x", ""),
            see(7),
            see(8),
            sample("text 'a'", "text ''", 100, start=("picture 7", 0.5)),
            sample("text 'b'", "text 'x'", 101, start=("picture 8", 0.5)),
            sample("text 'x'", "text 'x'", 101, start=("picture 8", 0.5)),
            decode(AN_A, "zero", 100, pixels=7, strength=0.3, **NOISED),
            decode("image of text 'b'", "image of text 'x'", 101, pixels=8, strength=0.3, **NOISED),
        ],
    ),
    "inpaint": (
        asked("Inpaint", prompts=["a"], image=picture(7), mask=mask()),
        [encode("a", ""), A, decode(AN_A, "zero", 100, pixels=7, **REPAINTED)],
    ),
    "inpaint, a mask each, with strength": (
        asked(
            "Inpaint",
            prompts=["a", "b"],
            image=tensor(pixels(7)),
            masks=[mask(), mask()],
            strength=0.5,
        ),
        [
            encode("a", "b", ""),
            A,
            sample("text 'b'", "text ''", 101),
            decode(AN_A, "zero", 100, pixels=7, strength=0.5, **REPAINTED),
            decode("image of text 'b'", "zero", 101, pixels=7, strength=0.5, **REPAINTED),
        ],
    ),
    "inpaint of embeddings and a latent": (
        asked(
            "Inpaint",
            image=latents(),
            mask=mask(),
            image_embeds=tensors.encode(np.full((1, 4), 2, np.float32)),
            negative_image_embeds=tensors.encode(np.full((1, 4), 3, np.float32)),
        ),
        [decode("a blend", "a blend", 100, pixels="latents", **REPAINTED)],
    ),
    "inpaint of the mask's surroundings": (
        asked(
            "Inpaint",
            prompts=["a"],
            image=picture(7, 300, 500),
            mask=mask(300, 500),
            padding_mask_crop=10,
        ),
        [encode("a", ""), A, decode(AN_A, "zero", 100, pixels=7, **REPAINTED)],
    ),
    "outpaint": (
        asked("Outpaint", prompts=["a"], image=picture(7, 60, 120), top=4, right=72),
        [
            encode("a", ""),
            A,
            decode(AN_A, "zero", 100, pixels=7, start="masked_image", size=(64, 192)),
        ],
    ),
    "variation": (
        asked("Variation", image=picture(7)),
        [see(7), decode("picture 7", "zero", 100)],
    ),
    "variation of two pictures, two each": (
        asked(
            "Variation",
            images=[picture(7), picture(8)],
            settings={"images_per_prompt": 2, "guidance_scale": 1},
        ),
        [see(7), see(8)] + [decode(f"picture {7 + i // 2}", None, 100 + i) for i in range(4)],
    ),
    "control from noise": (
        asked("Control", prompts=["a"], hint=picture(7)),
        [encode("a", ""), A, decode(AN_A, "zero", 100, hint=(3, 64, 128))],
    ),
    "control from a picture": (
        asked(
            "Control",
            prompts=["a"],
            hint=tensor(np.ones((64, 128, 3), np.float32)),
            image=picture(8),
            prior_strength=1,
        ),
        [
            encode("a", ""),
            see(8),
            sample("text 'a'", "text ''", 100, start=("picture 8", 1.0)),
            decode(AN_A, "zero", 100, hint=(3, 64, 128), pixels=8, strength=0.3, **NOISED),
        ],
    ),
    "text-guided edit": (
        asked("TextGuidedEdit", image=picture(7), source_prompt="a", target_prompt="b"),
        [encode("a", "b"), see(7), decode("a blend", "zero", 100)],
    ),
    "text-guided edit that starts from the picture": (
        asked(
            "TextGuidedEdit",
            image=picture(7),
            source_prompt="a",
            target_prompt="b",
            strength=0.9,
        ),
        [
            encode("a", "b"),
            see(7),
            decode("a blend", "zero", 100, pixels=7, strength=0.9, **NOISED),
        ],
    ),
}


@pytest.mark.parametrize(("request_", "expected"), FLOWS.values(), ids=FLOWS)
async def test_stage_calls(api, stages, request_, expected):
    rpc, request = request_
    await getattr(api, f"{rpc}Unary")(request)
    assert recorded(stages) == expected


@pytest.mark.parametrize(("request_", "expected"), FLOWS.values(), ids=FLOWS)
async def test_unary_equals_stream(api, request_, expected):
    rpc, request = request_
    streamed = [e.image async for e in getattr(api, rpc)(request) if e.HasField("image")]
    unary = list((await getattr(api, f"{rpc}Unary")(request)).images)
    for image in [*streamed, *unary]:
        image.ClearField("elapsed")
    assert sorted(streamed, key=lambda image: image.index) == unary
    assert [image.index for image in unary] == list(range(len(unary)))


READER = {
    "text to image": (
        asked("TextToImage", model="reader", prompts=["a"], negative_prompts=["x"]),
        ("text 'a'", "text 'x'"),
    ),
    "embeddings and prompts": (
        asked(
            "TextToImage",
            model="reader",
            prompts=["a"],
            image_embeds=tensors.encode(np.full((1, 4), 2, np.float32)),
            negative_image_embeds=tensors.encode(np.full((1, 4), 3, np.float32)),
        ),
        ("text 'a'", "text ''"),
    ),
    "mix": (
        asked(
            "Mix",
            model="reader",
            conditions=[{"text": "a", "weight": 1}],
            prompt="b",
            negative_prompt="x",
        ),
        ("text 'b'", "text 'x'"),
    ),
    "mix without a prompt": (
        asked("Mix", model="reader", conditions=[{"text": "a", "weight": 1}]),
        ("text ''", "text ''"),
    ),
    "variation": (asked("Variation", model="reader", image=picture(7)), ("text ''", "text ''")),
    "text-guided edit": (
        asked(
            "TextGuidedEdit",
            model="reader",
            image=picture(7),
            source_prompt="a",
            target_prompt="b",
        ),
        ("text 'b'", "text ''"),
    ),
}


@pytest.mark.parametrize(("request_", "expected"), READER.values(), ids=READER)
async def test_a_decoder_that_reads_text_is_told_it(api, stages, request_, expected):
    stages.readers = ("prior", "decoder")
    rpc, request = request_
    await getattr(api, f"{rpc}Unary")(request)
    conditioning = stages.calls[-1].request.conditioning
    told = [stages.name(conditioning, part) for part in ("text_embed", "negative_text_embed")]
    assert tuple(told) == expected
    assert conditioning.HasField("image_embed")


@pytest.mark.parametrize(
    ("flow", "fields", "start"),
    [
        ("Mix", {"conditions": [{"text": "a", "weight": 1}]}, "noise"),
        ("ImageToImage", {"prompts": ["a"], "image": picture(7)}, "image"),
        ("Inpaint", {"prompts": ["a"], "image": picture(7), "mask": mask()}, "masked_image"),
    ],
)
async def test_latents_are_the_canvas_noise(api, stages, flow, fields, start):
    noise = np.random.default_rng(0).standard_normal((2, 4, 8, 16)).astype(np.float32)
    rpc, request = asked(
        flow, latents=tensors.encode(noise), settings={"images_per_prompt": 2}, **fields
    )
    await getattr(api, f"{rpc}Unary")(request)
    jobs = [call.request.canvas for call in stages.calls if call.method == "Decode"]
    for canvas, row in zip(jobs, noise, strict=True):
        name = "latents" if start == "noise" else "noise"
        sent = getattr(getattr(canvas, start), name)
        np.testing.assert_array_equal(tensors.decode(sent, "noise"), row)


async def test_settings_reach_both_samplers(api, stages):
    settings = {"scheduler": "ddim", "eta": 0.5, "progress_every": 3}
    _, request = asked("TextToImage", prompts=["a"], settings=settings)
    await api.TextToImageUnary(request)
    prior, decoder = (call.request.sampling for call in stages.calls[1:])
    assert (prior.scheduler, prior.HasField("eta"), prior.progress_every) == ("", False, 3)
    assert (decoder.scheduler, decoder.eta, decoder.progress_every) == ("ddim", 0.5, 3)


async def test_an_outpainted_canvas_repeats_the_edges_under_white(api, stages):
    edge = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    _, request = asked("Outpaint", prompts=["a"], image=tensor(edge), left=64)
    await api.OutpaintUnary(request)
    canvas = stages.calls[-1].request.canvas.masked_image
    sent, white = tensors.decode(canvas.pixels, ""), tensors.decode(canvas.mask, "")
    np.testing.assert_array_equal(sent[:, 64:], edge)
    np.testing.assert_array_equal(sent[:, :64], np.repeat(edge[:, :1], 64, axis=1))
    np.testing.assert_array_equal(white, np.repeat([[255] * 64 + [0] * 64], 64, axis=0))


@pytest.mark.parametrize("form", ["OUTPUT_FORMAT_PIXELS", "OUTPUT_FORMAT_FLOAT_PIXELS"])
async def test_a_crop_is_laid_back_under_the_mask_alone(api, stages, form):
    whole = np.random.default_rng(0).integers(0, 90, (100, 160, 3), np.uint8)
    hole = np.zeros((100, 160), np.uint8)
    hole[40:60, 70:90] = 255
    _, request = asked(
        "Inpaint",
        prompts=["a"],
        image=tensor(whole),
        mask=tensor(hole),
        padding_mask_crop=4,
        settings={"output_format": form},
    )
    [image] = (await api.InpaintUnary(request)).images
    result = tensors.decode(image.tensor, "image")
    made = 100 if result.dtype == np.uint8 else 100.0
    kept = whole if result.dtype == np.uint8 else whole / np.float32(255)
    assert result.shape == whole.shape
    np.testing.assert_array_equal(result[hole == 0], kept[hole == 0])
    assert (abs(result[hole == 255] - made) <= 1e-3).all()
    sent = tensors.decode(stages.calls[-1].request.canvas.masked_image.mask, "mask")
    assert 0.1 < (sent == 255).mean() < 0.5
