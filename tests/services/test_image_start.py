"""A start from an image: as the reference's image to image, and beside any other job."""

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Img2ImgPipeline

from kandinsky.v1 import decoder_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError
from tests.services.conftest import StageStubs, fields
from tests.services.test_stage_inputs import decode_request, set_path

SIZE = 64


def sent_image() -> tensor_pb2.Tensor:
    """float32 [64, 64, 3] from -1 to 1."""
    return tensors.from_torch(torch.rand(SIZE, SIZE, 3, generator=torch.manual_seed(3)) * 2 - 1)


def image_request(strength: float = 0.5, steps: int = 6) -> decoder_pb2.DecodeRequest:
    request = decode_request()
    request.sampling.steps, request.sampling.seed = steps, 4
    request.start.image.pixels.CopyFrom(sent_image())
    request.start.image.strength = strength
    return request


def drawn(events: list[decoder_pb2.DecodeEvent]) -> np.ndarray:
    return tensors.decode(events[-1].image.tensor, "image").astype(int)


@pytest.mark.filterwarnings("ignore:Passing `image` as torch tensor")
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
async def test_it_equals_the_reference(
    stages: StageStubs, tiny_checkpoint, strength: float, guidance_scale: float
) -> None:
    request = image_request(strength)
    request.sampling.guidance_scale = guidance_scale
    pipeline = KandinskyV22Img2ImgPipeline.from_pretrained(tiny_checkpoint / "decoder")
    given = request.conditioning
    expected = pipeline(
        image_embeds=tensors.to_torch(given.image_embed, "embed")[None],
        negative_image_embeds=tensors.to_torch(given.negative_image_embed, "embed")[None],
        image=tensors.to_torch(sent_image(), "image").permute(2, 0, 1)[None],
        strength=strength,
        height=SIZE,
        width=SIZE,
        num_inference_steps=request.sampling.steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(request.sampling.seed),
        output_type="np",
    ).images[0]
    assert expected.std() > 0.01
    difference = drawn(await stages.decode(request)) - (expected * 255).round().astype(int)
    assert np.abs(difference).max() <= 1


async def test_a_latent_stands_in_for_the_image(stages: StageStubs) -> None:
    encoded = await stages.decoder(
        "EncodeLatents", decoder_pb2.EncodeLatentsRequest(pixels=sent_image())
    )
    request = image_request()
    expected = drawn(await stages.decode(request))
    request.start.image.latents.CopyFrom(encoded.latents)
    assert np.abs(drawn(await stages.decode(request)) - expected).max() <= 1


async def test_it_shares_forwards_with_noise_and_stays_the_same(stages: StageStubs) -> None:
    image, noise = image_request(0.9, steps=60), decode_request()
    noise.sampling.steps = 50
    alone = [drawn(await stages.decode(request)) for request in (image, noise)]
    together = await stages.decode_together(image=image, noise=noise)
    trace = [dict(forward.jobs) for forward in stages.host.decoder.counters.trace]
    assert sum("image" in jobs and "noise" in jobs for jobs in trace) > 10
    for events, expected in zip(together, alone, strict=True):
        assert np.abs(drawn(events) - expected).max() <= 1
    image.sampling.seed += 1
    assert np.abs(drawn(await stages.decode(image)) - alone[0]).mean() >= 5


def latent(*shape: int, value: float = 0.0) -> tensor_pb2.Tensor:
    return tensors.encode(np.full(shape, value, np.float32))


BAD = [
    ("strength", 1e-3, "start.image.strength"),
    ("strength", 0.0, "start.image.strength"),
    ("strength", 1.01, "start.image.strength"),
    ("strength", float("nan"), "start.image.strength"),
    ("pixels", latent(SIZE, 2 * SIZE, 3), "start.image.pixels"),
    ("pixels", None, "start.image"),
    ("latents", latent(4, 1, 1), "start.image.latents.shape"),
    ("latents", latent(4, 8, 8, value=np.nan), "start.image.latents.data"),
]


@pytest.mark.parametrize(("field", "value", "path"), BAD)
async def test_bad_input_is_refused(stages: StageStubs, field: str, value, path: str) -> None:
    request = image_request()
    set_path(request.start.image, field, value)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == [path]
    assert (await stages.decode(image_request()))[-1].HasField("image")
