"""What the run of a plan sends to the stages, and what it answers to its caller."""

import io

import numpy as np
import pytest
from PIL import Image

from kandinsky.wire import tensors
from tests.gateway.messages import request, text


def asked(**fields):
    return request(**{"seed": 100, **fields})


async def test_embeddings_stand_in_for_prompts(api, stages):
    embeds = np.arange(8, dtype=np.float16).reshape(2, 4)
    conditionings = [
        {
            "image_embed": tensors.encode(embed),
            "negative_image_embed": tensors.encode(embeds[0] + 50),
        }
        for embed in embeds
    ]
    guide = {"embeddings": {"conditionings": conditionings}}
    response = await api.GenerateImages(asked(guide=guide, images_per_prompt=2))
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
    message = asked(model="priorless", guide=text("a"), negative={"texts": ["x"]})
    await api.GenerateImages(message)
    encoded, decoded = stages.calls
    assert encoded.metadata["application"] == "priorless-encoders"
    assert list(encoded.request.texts) == ["a", "x"]
    conditioning = decoded.request.conditioning
    assert stages.name(conditioning, "text_states") == "text 'a'"
    assert stages.name(conditioning, "negative_text_states") == "text 'x'"
    assert not conditioning.HasField("image_embed")


async def test_a_family_whose_unconditional_side_is_zeros(api, stages):
    """Nothing is encoded for it: it is as long as the other side."""
    stages.readers = ("decoder",)
    await api.GenerateImages(asked(model="priorless", guide=text("a")))
    encoded, decoded = stages.calls
    assert list(encoded.request.texts) == ["a"]
    conditioning = decoded.request.conditioning
    for name in ("text_states", "text_mask"):
        own, zeros = (
            tensors.decode(getattr(conditioning, f"{side}{name}"), name)
            for side in ("", "negative_")
        )
        assert zeros.shape == own.shape and zeros.dtype == own.dtype
        assert own.any() and not zeros.any()


async def test_an_unconditional_side_of_zeros_is_not_asked_for(api, stages):
    states = tensors.encode(np.ones((2, 4), np.float32))
    given = {"text_states": states, "text_mask": tensors.encode(np.ones(2, bool))}
    guide = {"embeddings": {"conditionings": [given]}}
    await api.GenerateImages(asked(model="priorless", guide=guide))
    [decoded] = stages.calls
    fields = [field.name for field, _ in decoded.request.conditioning.ListFields()]
    assert fields == ["text_states", "text_mask"]


async def test_jobs_carry_the_settings(api, stages):
    latents = np.random.default_rng(0).standard_normal((2, 4, 8, 16)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    await api.GenerateImages(
        asked(
            guide=text("a", "b"),
            decoder={"steps": 3, "latents": tensors.encode(latents)},
            prior={"latents": tensors.encode(noise)},
            output={"format": "OUTPUT_FORMAT_FLOAT_PIXELS"},
        )
    )
    priors = [call.request for call in stages.calls if call.method == "SampleEmbedding"]
    decodes = [call.request for call in stages.calls if call.method == "Decode"]
    for i, (prior, decoded) in enumerate(zip(priors, decodes, strict=True)):
        assert (prior.sampling.steps, prior.sampling.guidance_scale) == (5, 2.0)
        assert (decoded.sampling.steps, decoded.sampling.guidance_scale) == (3, 3.0)
        assert (decoded.start.height, decoded.start.width) == (64, 128)
        np.testing.assert_array_equal(tensors.decode(prior.latents, ""), noise[i])
        np.testing.assert_array_equal(tensors.decode(decoded.start.noise.noise, ""), latents[i])


async def test_a_job_without_latents_starts_from_noise(api, stages):
    await api.GenerateImages(asked(guide=text("a")))
    job = stages.calls[-1].request
    assert job.start.WhichOneof("kind") == "noise"
    assert not job.start.noise.HasField("noise")


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
async def test_files(api, name):
    response = await api.GenerateImages(
        asked(guide=text("a"), output={"format": f"OUTPUT_FORMAT_{name}"})
    )
    image = Image.open(io.BytesIO(response.images[0].encoded))
    assert (image.format, image.size) == (name, (128, 64))
    assert abs(int(np.asarray(image)[0, 0, 0]) - 100) <= 1


@pytest.mark.parametrize(
    ("name", "shape"),
    [("PIXELS", (64, 128, 3)), ("FLOAT_PIXELS", (64, 128, 3)), ("LATENTS", (4, 8, 8))],
)
async def test_tensors(api, name, shape):
    response = await api.GenerateImages(
        asked(guide=text("a"), output={"format": f"OUTPUT_FORMAT_{name}"})
    )
    assert tensors.decode(response.images[0].tensor, "").shape == shape


async def test_the_index_and_seed_of_each_image(api):
    response = await api.GenerateImages(asked(guide=text("a", "b"), images_per_prompt=2))
    found = [(image.index, image.seed) for image in response.images]
    assert found == [(i, 100 + i) for i in range(4)]


async def test_the_stream_has_events_of_every_image(api):
    message = asked(guide=text("a"), negative={"texts": ["x"]})
    kinds = [
        (event.WhichOneof("event"), event.progress.phase) async for event in api.Generate(message)
    ]
    assert kinds == [
        ("queued", ""),
        ("progress", "prior"),
        ("queued", ""),
        ("progress", "denoise"),
        ("image", ""),
    ]


async def test_a_drawn_seed_makes_the_image_again(api, stages):
    message = request(guide=text("a"), images_per_prompt=2)
    first, second = (await api.GenerateImages(message)).images
    assert second.seed == first.seed + 1
    assert [call.request.sampling.seed for call in stages.calls[1:]] == [
        first.seed,
        second.seed,
    ] * 2
