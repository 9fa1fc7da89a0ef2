"""Text to image: its stage calls, in order, and what its caller gets."""

import io

import numpy as np
import pytest
from PIL import Image

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import tensors
from tests.gateway.recorded import decode, encode, recorded, sample


def request(**fields):
    settings = {"seed": 100, **fields.pop("settings", {})}
    return generation.TextToImageRequest(**{"model": "tiny", "settings": settings, **fields})


FLOWS = {
    "one prompt": (
        request(prompts=["a"]),
        [
            encode("a", ""),
            sample("text 'a'", "text ''", 100),
            decode("image of text 'a'", "zero", 100),
        ],
    ),
    "two prompts, two images each": (
        request(prompts=["a", "b"], settings={"images_per_prompt": 2}),
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
    "a negative for one of two prompts": (
        request(prompts=["a", "b"], negative_prompts=["x", ""]),
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
        request(prompts=["a", "b"], negative_prompts=["x"]),
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
    "no guidance": (
        request(
            prompts=["a"],
            negative_prompts=["x"],
            settings={"guidance_scale": 1, "prior_guidance_scale": 1},
        ),
        [
            encode("a"),
            sample("text 'a'", None, 100),
            decode("image of text 'a'", None, 100),
        ],
    ),
    "guidance of the prior alone": (
        request(prompts=["a"], negative_prompts=["x"], settings={"guidance_scale": 0.5}),
        [
            encode("a", "x"),
            sample("text 'a'", "text 'x'", 100),
            decode("image of text 'a'", None, 100),
        ],
    ),
}


@pytest.mark.parametrize(("asked", "expected"), FLOWS.values(), ids=FLOWS)
async def test_stage_calls(api, stages, asked, expected):
    await api.TextToImageUnary(asked)
    assert recorded(stages) == expected


async def test_embeddings_stand_in_for_prompts(api, stages):
    embeds = np.arange(8, dtype=np.float16).reshape(2, 4)
    asked = request(
        image_embeds=tensors.encode(embeds),
        negative_image_embeds=tensors.encode(embeds[:1] + 50),
        settings={"images_per_prompt": 2},
    )
    response = await api.TextToImageUnary(asked)
    assert [image.HasField("prior_stats") for image in response.images] == [False] * 4
    assert [call.method for call in stages.calls] == ["Decode"] * 4
    for i, call in enumerate(stages.calls):
        conditioning = call.request.conditioning
        given = tensors.decode(conditioning.image_embed, "")
        np.testing.assert_array_equal(given, embeds[i // 2])
        np.testing.assert_array_equal(
            tensors.decode(conditioning.negative_image_embed, ""), embeds[0] + 50
        )


async def test_a_model_without_a_prior(api, stages):
    stages.readers = ("decoder",)
    await api.TextToImageUnary(request(model="priorless", prompts=["a"], negative_prompts=["x"]))
    encoded, decoded = stages.calls
    assert encoded.metadata["application"] == "priorless-encoders"
    assert list(encoded.request.texts) == ["a", "x"]
    assert stages.name(decoded.request.conditioning, "text_embed") == "text 'a'"
    assert stages.name(decoded.request.conditioning, "negative_text_embed") == "text 'x'"
    assert not decoded.request.conditioning.HasField("image_embed")


async def test_jobs_carry_the_settings(api, stages):
    latents = np.random.default_rng(0).standard_normal((2, 4, 8, 16)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    await api.TextToImageUnary(
        request(
            prompts=["a", "b"],
            latents=tensors.encode(latents),
            prior_latents=tensors.encode(noise),
            settings={"steps": 3, "output_format": generation.OUTPUT_FORMAT_FLOAT_PIXELS},
        )
    )
    priors = [call.request for call in stages.calls if call.method == "SampleEmbedding"]
    decodes = [call.request for call in stages.calls if call.method == "Decode"]
    for i, (prior, decoded) in enumerate(zip(priors, decodes, strict=True)):
        assert (prior.sampling.steps, prior.sampling.guidance_scale) == (5, 2.0)
        assert (decoded.sampling.steps, decoded.sampling.guidance_scale) == (3, 3.0)
        assert (decoded.canvas.height, decoded.canvas.width) == (64, 128)
        np.testing.assert_array_equal(tensors.decode(prior.latents, ""), noise[i])
        np.testing.assert_array_equal(tensors.decode(decoded.canvas.noise.latents, ""), latents[i])


async def test_a_job_without_latents_starts_from_noise(api, stages):
    await api.TextToImageUnary(request(prompts=["a"]))
    job = stages.calls[-1].request
    assert job.canvas.WhichOneof("start") == "noise"
    assert not job.canvas.noise.HasField("latents")


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
async def test_files(api, name):
    response = await api.TextToImageUnary(
        request(prompts=["a"], settings={"output_format": f"OUTPUT_FORMAT_{name}"})
    )
    picture = Image.open(io.BytesIO(response.images[0].encoded))
    assert (picture.format, picture.size) == (name, (128, 64))
    assert abs(int(np.asarray(picture)[0, 0, 0]) - 100) <= 1


@pytest.mark.parametrize(
    ("name", "shape"),
    [("PIXELS", (64, 128, 3)), ("FLOAT_PIXELS", (64, 128, 3)), ("LATENTS", (4, 8, 8))],
)
async def test_tensors(api, name, shape):
    response = await api.TextToImageUnary(
        request(prompts=["a"], settings={"output_format": f"OUTPUT_FORMAT_{name}"})
    )
    assert tensors.decode(response.images[0].tensor, "").shape == shape


async def test_unary_equals_stream(api):
    asked = request(prompts=["a", "b"], settings={"images_per_prompt": 2})
    streamed = [e.image async for e in api.TextToImage(asked) if e.HasField("image")]
    unary = list((await api.TextToImageUnary(asked)).images)
    for image in [*streamed, *unary]:
        assert image.HasField("elapsed")
        image.ClearField("elapsed")
    assert sorted(streamed, key=lambda image: image.index) == unary
    assert [(image.index, image.seed) for image in unary] == [(i, 100 + i) for i in range(4)]


async def test_stream_tells_of_every_image(api):
    asked = request(prompts=["a"], negative_prompts=["x"])
    kinds = [
        (event.WhichOneof("event"), event.progress.phase) async for event in api.TextToImage(asked)
    ]
    assert kinds == [
        ("queued", ""),
        ("progress", "prior"),
        ("queued", ""),
        ("progress", "denoise"),
        ("image", ""),
    ]


async def test_a_drawn_seed_makes_the_image_again(api, stages):
    asked = generation.TextToImageRequest(
        model="tiny", prompts=["a"], settings={"images_per_prompt": 2}
    )
    first, second = (await api.TextToImageUnary(asked)).images
    assert second.seed == first.seed + 1
    assert [call.request.sampling.seed for call in stages.calls[1:]] == [
        first.seed,
        second.seed,
    ] * 2
