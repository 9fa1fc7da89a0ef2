"""Flows as data: a request, and the stage calls that it takes, in order."""

import numpy as np
import pytest

from kandinsky.wire import tensors
from tests.gateway.messages import (
    floats,
    latents,
    level,
    mask,
    mix,
    request,
    tensor,
    text,
    text_diff,
    variation,
)
from tests.gateway.recorded import decode, encode, recorded, sample, see


def asked(**fields):
    return request(**{"seed": 100, **fields})


def frames(first, last, count):
    return {"interpolation": {"first": first, "last": last, "frames": count}}


def embeddings(*conditionings):
    return {"embeddings": {"conditionings": conditionings}}


def conditioning(embed, negative):
    return {
        "image_embed": floats(4, value=embed),
        "negative_image_embed": floats(4, value=negative),
    }


A, AN_A = sample("text 'a'", "text ''", 100), "image of text 'a'"
INPAINTED = {"start": "inpaint", "size": (64, 128), "strength": 1}
NOISED = {"start": "image", "size": (64, 128)}
NO_GUIDANCE = {"decoder": {"guidance_scale": 1}, "prior": {"guidance_scale": 1}}
X_FROM_NOTHING = sample("text 'x'", "text ''", 100)


def of_hinted(call):
    method, _, what = call
    return (method, {"SampleEmbedding": "hinted-prior", "Decode": "hinted-decoder"}[method], what)


FLOWS = {
    "one prompt": (
        asked(guide=text("a")),
        [encode("a", ""), A, decode(AN_A, "zero", 100)],
    ),
    "two prompts, two images each": (
        asked(guide=text("a", "b"), images_per_prompt=2),
        [
            encode("a", "b", ""),
            sample("text 'a'", "text ''", 100),
            sample("text 'a'", "text ''", 101),
            sample("text 'b'", "text ''", 102),
            sample("text 'b'", "text ''", 103),
            decode("image of text 'a'", "zero", 100),
            decode("image of text 'a'", "zero", 101),
            decode("image of text 'b'", "zero", 102),
            decode("image of text 'b'", "zero", 103),
        ],
    ),
    "a prompt twice is encoded once": (
        asked(guide=text("a", "a")),
        [
            encode("a", ""),
            A,
            sample("text 'a'", "text ''", 101),
            decode(AN_A, "zero", 100),
            decode(AN_A, "zero", 101),
        ],
    ),
    "a negative for one of two prompts": (
        asked(guide=text("a", "b"), negative={"texts": ["x", ""]}),
        [
            encode("a", "b", "x", ""),
            sample("text 'a'", "text 'x'", 100),
            sample("text 'x'", "text 'x'", 100),
            sample("text 'b'", "text ''", 101),
            decode("image of text 'a'", "image of text 'x'", 100),
            decode("image of text 'b'", "zero", 101),
        ],
    ),
    "one negative for all prompts": (
        asked(guide=text("a", "b"), negative={"texts": ["x"]}),
        [
            encode("a", "b", "x"),
            sample("text 'a'", "text 'x'", 100),
            sample("text 'x'", "text 'x'", 100),
            sample("text 'b'", "text 'x'", 101),
            sample("text 'x'", "text 'x'", 101),
            decode("image of text 'a'", "image of text 'x'", 100),
            decode("image of text 'b'", "image of text 'x'", 101),
        ],
    ),
    "a negative of the prior alone": (
        asked(guide=text("a"), prior={"negative_texts": ["y"]}),
        [
            encode("a", "y"),
            sample("text 'a'", "text 'y'", 100),
            sample("text 'y'", "text 'y'", 100),
            decode(AN_A, "image of text 'y'", 100),
        ],
    ),
    "no guidance": (
        asked(guide=text("a"), negative={"texts": ["x"]}, **NO_GUIDANCE),
        [encode("a"), sample("text 'a'", None, 100), decode(AN_A, None, 100)],
    ),
    "guidance of the prior alone": (
        asked(guide=text("a"), negative={"texts": ["x"]}, decoder={"guidance_scale": 0.5}),
        [encode("a", "x"), sample("text 'a'", "text 'x'", 100), decode(AN_A, None, 100)],
    ),
    "mix of a text and an image": (
        asked(guide=mix(({"text": "a"}, 0.5), ({"image": level(7)}, 0.5))),
        [encode("a", ""), see(7), A, decode("a blend", "zero", 100)],
    ),
    "mix of one image": (
        asked(guide=mix(({"image": level(7)}, 1))),
        [see(7), decode("image 7", "zero", 100)],
    ),
    "mix of embeddings asks for the zero embedding": (
        asked(guide=mix(*(({"image_embed": floats(4, value=2)}, w) for w in (0.5, 0.6)))),
        [encode(""), decode("a blend", "zero", 100)],
    ),
    "mix: a source of no weight is not sampled": (
        asked(guide=mix(({"text": "a"}, 1), ({"text": "b"}, 0))),
        [encode("a", "b", ""), A, decode(AN_A, "zero", 100)],
    ),
    "mix with a negative text": (
        asked(guide=mix(({"text": "a"}, 1)), negative={"texts": ["x"]}),
        [encode("a", "x", ""), A, X_FROM_NOTHING, decode(AN_A, "image of text 'x'", 100)],
    ),
    "mix with a negative text of the prior": (
        asked(guide=mix(({"text": "a"}, 1)), prior={"negative_texts": ["y"]}),
        [
            encode("a", "y"),
            sample("text 'a'", "text 'y'", 100),
            sample("text 'y'", "text 'y'", 100),
            decode(AN_A, "image of text 'y'", 100),
        ],
    ),
    "mix with a negative embedding": (
        asked(
            guide=mix(({"text": "a"}, 1)),
            negative={"image_embeds": floats(1, 4, value=3)},
            images_per_prompt=2,
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
        asked(guide=frames({"text": "a"}, {"text": "b"}, 3)),
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
        asked(guide=text("a"), canvas={"image": {"images": [level(7)], "strength": 0.5}}),
        [encode("a", ""), A, decode(AN_A, "zero", 100, pixels=7, strength=0.5, **NOISED)],
    ),
    "image to image of a larger image keeps its size": (
        asked(guide=text("a"), canvas={"image": {"images": [level(7, 130, 200)], "strength": 0.5}}),
        [
            encode("a", ""),
            A,
            decode(AN_A, "zero", 100, start="image", pixels=7, strength=0.5, size=(128, 192)),
        ],
    ),
    "image to image of a latent, no guidance": (
        asked(guide=text("a"), canvas={"image": {"images": [latents(4, 8, 16)]}}, **NO_GUIDANCE),
        [
            encode("a"),
            sample("text 'a'", None, 100),
            decode(AN_A, None, 100, pixels="latents", strength=0.3, **NOISED),
        ],
    ),
    "image to image, an image each, the prior starts from it": (
        asked(
            guide=text("a", "b"),
            negative={"texts": ["", "x"]},
            canvas={"image": {"images": [level(7), level(8)]}},
            prior={"start": {"strength": 0.5}},
        ),
        [
            encode("a", "b", "x", ""),
            see(7),
            see(8),
            sample("text 'a'", "text ''", 100, start=("image 7", 0.5)),
            sample("text 'b'", "text 'x'", 101, start=("image 8", 0.5)),
            sample("text 'x'", "text 'x'", 101, start=("image 8", 0.5)),
            decode(AN_A, "zero", 100, pixels=7, strength=0.3, **NOISED),
            decode("image of text 'b'", "image of text 'x'", 101, pixels=8, strength=0.3, **NOISED),
        ],
    ),
    "a prior that starts from an image of its own, at the model's strength": (
        asked(guide=text("a"), prior={"start": {"images": [level(9)]}}),
        [
            encode("a", ""),
            see(9),
            sample("text 'a'", "text ''", 100, start=("image 9", 0.3)),
            decode(AN_A, "zero", 100),
        ],
    ),
    "inpaint": (
        asked(guide=text("a"), canvas={"inpaint": {"images": [level(7)], "masks": [mask()]}}),
        [encode("a", ""), A, decode(AN_A, "zero", 100, pixels=7, **INPAINTED)],
    ),
    "inpaint, a mask each, with strength": (
        asked(
            guide=text("a", "b"),
            canvas={
                "inpaint": {
                    "images": [tensor(np.full((64, 128, 3), 7, np.uint8))],
                    "masks": [mask(), mask()],
                    "strength": 0.5,
                }
            },
        ),
        [
            encode("a", "b", ""),
            A,
            sample("text 'b'", "text ''", 101),
            decode(AN_A, "zero", 100, pixels=7, **{**INPAINTED, "strength": 0.5}),
            decode("image of text 'b'", "zero", 101, pixels=7, **{**INPAINTED, "strength": 0.5}),
        ],
    ),
    "inpaint of embeddings and a latent": (
        asked(
            guide=embeddings(conditioning(2, 3)),
            canvas={"inpaint": {"images": [latents(4, 8, 16)], "masks": [mask()]}},
        ),
        [decode("a blend", "a blend", 100, pixels="latents", **INPAINTED)],
    ),
    "inpaint of the mask's surroundings": (
        asked(
            guide=text("a"),
            canvas={
                "inpaint": {
                    "images": [level(7, 300, 500)],
                    "masks": [mask(300, 500)],
                    "padding_mask_crop": 10,
                }
            },
        ),
        [encode("a", ""), A, decode(AN_A, "zero", 100, pixels=7, **INPAINTED)],
    ),
    "outpaint": (
        asked(
            guide=text("a"),
            canvas={"outpaint": {"images": [level(7, 60, 120)], "top": 4, "right": 72}},
        ),
        [
            encode("a", ""),
            A,
            decode(AN_A, "zero", 100, pixels=7, **{**INPAINTED, "size": (64, 192)}),
        ],
    ),
    "variation": (
        asked(guide=variation(level(7))),
        [see(7), decode("image 7", "zero", 100)],
    ),
    "variation of two images, two each": (
        asked(
            guide=variation(level(7), level(8)), images_per_prompt=2, decoder={"guidance_scale": 1}
        ),
        [see(7), see(8)] + [decode(f"image {7 + i // 2}", None, 100 + i) for i in range(4)],
    ),
    "variation away from a text": (
        asked(guide=variation(level(7)), negative={"texts": ["x"]}),
        [
            encode("x", ""),
            see(7),
            X_FROM_NOTHING,
            decode("image 7", "image of text 'x'", 100),
        ],
    ),
    "variation that starts from the image": (
        asked(guide=variation(level(7)), canvas={"image": {"strength": 0.5}}),
        [see(7), decode("image 7", "zero", 100, pixels=7, strength=0.5, **NOISED)],
    ),
    "control from noise": (
        asked(model="hinted", guide=text("a"), control={"hints": [level(7)]}),
        [
            encode("a", ""),
            of_hinted(A),
            of_hinted(decode(AN_A, "zero", 100, hint=(3, 64, 128))),
        ],
    ),
    "control from an image": (
        asked(
            model="hinted",
            guide=text("a"),
            control={"hints": [tensor(np.ones((64, 128, 3), np.float32))]},
            canvas={"image": {"images": [level(8)]}},
            prior={"start": {"strength": 1}},
        ),
        [
            encode("a", ""),
            see(8),
            of_hinted(sample("text 'a'", "text ''", 100, start=("image 8", 1.0))),
            of_hinted(
                decode(AN_A, "zero", 100, hint=(3, 64, 128), pixels=8, strength=0.3, **NOISED)
            ),
        ],
    ),
    "text diff": (
        asked(guide=text_diff(level(7))),
        [encode("a", "b"), see(7), decode("a blend", "zero", 100)],
    ),
    "text diff that starts from the image": (
        asked(guide=text_diff(level(7)), canvas={"image": {"strength": 0.9}}),
        [
            encode("a", "b"),
            see(7),
            decode("a blend", "zero", 100, pixels=7, strength=0.9, **NOISED),
        ],
    ),
    "text diff under a mask": (
        asked(guide=text_diff(level(7)), canvas={"inpaint": {"masks": [mask()]}}),
        [encode("a", "b"), see(7), decode("a blend", "zero", 100, pixels=7, **INPAINTED)],
    ),
}


@pytest.mark.parametrize(("message", "expected"), FLOWS.values(), ids=FLOWS)
async def test_stage_calls(api, stages, message, expected):
    await api.GenerateImages(message)
    assert recorded(stages) == expected


@pytest.mark.parametrize(("message", "expected"), FLOWS.values(), ids=FLOWS)
async def test_one_answer_equals_the_stream(api, message, expected):
    streamed = [e.image async for e in api.Generate(message) if e.HasField("image")]
    together = list((await api.GenerateImages(message)).images)
    for image in [*streamed, *together]:
        assert image.HasField("elapsed")
        image.ClearField("elapsed")
    assert sorted(streamed, key=lambda image: image.index) == together
    assert [image.index for image in together] == list(range(len(together)))


READER = {
    "text": (
        asked(model="reader", guide=text("a"), negative={"texts": ["x"]}),
        ("text 'a'", "text 'x'"),
    ),
    "embeddings and texts": (
        asked(model="reader", guide=embeddings(conditioning(2, 3)), decoder={"texts": ["a"]}),
        ("text 'a'", "text ''"),
    ),
    "embeddings without texts": (
        asked(model="reader", guide=embeddings(conditioning(2, 3))),
        ("text ''", "text ''"),
    ),
    "mix": (
        asked(
            model="reader",
            guide=mix(({"text": "a"}, 1)),
            decoder={"texts": ["b"]},
            negative={"texts": ["x"]},
        ),
        ("text 'b'", "text 'x'"),
    ),
    "mix without a text": (
        asked(model="reader", guide=mix(({"text": "a"}, 1))),
        ("text ''", "text ''"),
    ),
    "other texts than the prior's": (
        asked(
            model="reader",
            guide=text("a"),
            negative={"texts": ["x"]},
            decoder={"texts": ["b"], "negative_texts": ["y"]},
        ),
        ("text 'b'", "text 'y'"),
    ),
    "no text, where the prior has one": (
        asked(
            model="reader",
            guide=text("a"),
            negative={"texts": ["x"]},
            decoder={"texts": [""], "negative_texts": [""]},
        ),
        ("text ''", "text ''"),
    ),
    "variation": (asked(model="reader", guide=variation(level(7))), ("text ''", "text ''")),
    "text diff": (asked(model="reader", guide=text_diff(level(7))), ("text 'b'", "text ''")),
}


@pytest.mark.parametrize(("message", "expected"), READER.values(), ids=READER)
async def test_what_a_decoder_that_reads_text_reads(api, stages, message, expected):
    stages.readers = ("prior", "decoder")
    await api.GenerateImages(message)
    conditioning = stages.calls[-1].request.conditioning
    read = [stages.name(conditioning, part) for part in ("text_embed", "negative_text_embed")]
    assert tuple(read) == expected
    assert conditioning.HasField("image_embed")


async def test_embeddings_with_their_texts_encoded_are_encoded_no_more(api, stages):
    parts = {"text_embed": floats(4, value=5), "text_states": floats(2, 4, value=6)}
    given = {**conditioning(2, 3), **parts, **{f"negative_{k}": v for k, v in parts.items()}}
    await api.GenerateImages(asked(model="reader", guide=embeddings(given)))
    [decoding] = stages.calls
    for name, tensor_ in given.items():
        assert getattr(decoding.request.conditioning, name) == tensor_


@pytest.mark.parametrize(
    ("canvas", "start"),
    [
        (None, "noise"),
        ({"image": {"images": [level(7)]}}, "image"),
        ({"inpaint": {"images": [level(7)], "masks": [mask()]}}, "inpaint"),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
async def test_latents_are_the_noise_of_the_start(api, stages, canvas, start, rows):
    """A row an image, or one for all."""
    noise = np.random.default_rng(0).standard_normal((rows, 4, 8, 16)).astype(np.float32)
    settings = {"latents": tensors.encode(noise)}
    await api.GenerateImages(
        asked(guide=mix(({"text": "a"}, 1)), canvas=canvas, decoder=settings, images_per_prompt=2)
    )
    jobs = [call.request.start for call in stages.calls if call.method == "Decode"]
    assert len(jobs) == 2
    for job, row in zip(jobs, noise if rows == 2 else [*noise] * 2, strict=True):
        sent = getattr(job, start).noise
        np.testing.assert_array_equal(tensors.decode(sent, "noise"), row)


async def test_settings_reach_both_samplers(api, stages):
    settings = {"scheduler": "ddim", "eta": 0.5}
    request = asked(guide=text("a"), decoder=settings, events={"progress_every": 3})
    async for _ in api.Generate(request):
        pass
    prior, decoder = (call.request.sampling for call in stages.calls[1:])
    assert (prior.scheduler, prior.HasField("eta"), prior.progress_every) == ("", False, 3)
    assert (decoder.scheduler, decoder.eta, decoder.progress_every) == ("ddim", 0.5, 3)


async def test_an_outpainted_canvas_repeats_the_edges_under_white(api, stages):
    edge = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    canvas = {"outpaint": {"images": [tensor(edge)], "left": 64}}
    await api.GenerateImages(asked(guide=text("a"), canvas=canvas))
    canvas = stages.calls[-1].request.start.inpaint
    sent, white = tensors.decode(canvas.pixels, ""), tensors.decode(canvas.mask, "")
    np.testing.assert_array_equal(sent[:, 64:], edge)
    np.testing.assert_array_equal(sent[:, :64], np.repeat(edge[:, :1], 64, axis=1))
    np.testing.assert_array_equal(white, np.repeat([[255] * 64 + [0] * 64], 64, axis=0))


@pytest.mark.parametrize("form", ["OUTPUT_FORMAT_PIXELS", "OUTPUT_FORMAT_FLOAT_PIXELS"])
async def test_a_crop_is_laid_back_under_the_mask_alone(api, stages, form):
    whole = np.random.default_rng(0).integers(0, 90, (100, 160, 3), np.uint8)
    hole = np.zeros((100, 160), np.uint8)
    hole[40:60, 70:90] = 255
    canvas = {"images": [tensor(whole)], "masks": [tensor(hole)], "padding_mask_crop": 4}
    message = asked(guide=text("a"), canvas={"inpaint": canvas}, output={"format": form})
    [image] = (await api.GenerateImages(message)).images
    result = tensors.decode(image.tensor, "image")
    made = 100 if result.dtype == np.uint8 else 100.0
    kept = whole if result.dtype == np.uint8 else whole / np.float32(255)
    assert result.shape == whole.shape
    np.testing.assert_array_equal(result[hole == 0], kept[hole == 0])
    assert (abs(result[hole == 255] - made) <= 1e-3).all()
    sent = tensors.decode(stages.calls[-1].request.start.inpaint.mask, "mask")
    assert 0.1 < (sent == 255).mean() < 0.5
