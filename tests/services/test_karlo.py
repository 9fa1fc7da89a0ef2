"""What the stages of Karlo answer and refuse by themselves."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated import unclip

from kandinsky.v1 import conditioning_pb2, decoder_pb2, prior_pb2, sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason
from tests import tiny_karlo
from tests.services.asking import random_tensor
from tests.services.conftest import StageStubs, fields
from tests.stagehost import host_stages

SEED = 7


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_karlo.build(tmp_path_factory.mktemp("tiny-karlo"))
    return tiny_karlo.write_catalog(folder, dtype="float64")


@pytest.fixture
async def stages(checkpoint: Path) -> AsyncIterator[StageStubs]:
    async with (
        host_stages("tiny", checkpoint) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host)


def text_output(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A text encoder's pooled output [1, D], its states [1, 77, D] and its mask [1, 77]."""
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    embed = torch.randn(1, tiny_karlo.WIDTH, **draw)
    states = torch.randn(1, tiny_karlo.POSITIONS, tiny_karlo.WIDTH, **draw)
    return embed, states, torch.arange(tiny_karlo.POSITIONS)[None] < 5 + seed


def put_text(message: conditioning_pb2.Conditioning, side: str, output: tuple) -> None:
    for name, tensor in zip(("text_embed", "text_states", "text_mask"), output, strict=True):
        getattr(message, side + name).CopyFrom(tensors.from_torch(tensor[0]))


def decode_request() -> decoder_pb2.DecodeRequest:
    request = decoder_pb2.DecodeRequest()
    put_text(request.conditioning, "", text_output(1))
    put_text(request.conditioning, "negative_", text_output(2))
    request.conditioning.image_embed.CopyFrom(random_tensor(tiny_karlo.WIDTH, seed=3))
    request.sampling.steps, request.sampling.seed = 4, SEED
    request.start.height = request.start.width = tiny_karlo.LARGE
    request.start.noise.SetInParent()
    request.super_resolution.steps = 4
    return request


def image(events: list[decoder_pb2.DecodeEvent]) -> np.ndarray:
    return tensors.decode(events[-1].image.tensor, "image")


async def test_a_text_output_that_is_given_passes_prior_and_decoder_with_one_generator(
    stages: StageStubs, checkpoint: Path
) -> None:
    """The decoder goes on with the generator that the prior's answer hands over."""
    with tiny_karlo.findable():
        reference = unclip.UnCLIPPipeline.from_pretrained(checkpoint / "karlo").to(torch.float64)
    given = text_output(1)
    expected = reference(
        text_model_output=given[:2],
        text_attention_mask=given[2],
        prior_num_inference_steps=3,
        decoder_num_inference_steps=4,
        super_res_num_inference_steps=4,
        generator=torch.Generator().manual_seed(SEED),
        output_type="np",
    ).images[0]
    nothing = reference._encode_prompt("", torch.device("cpu"), 1, False)
    prior = prior_pb2.SampleEmbeddingRequest()
    prior.sampling.steps, prior.sampling.seed = 3, SEED
    decode = decode_request()
    for conditioning in (prior.conditioning, decode.conditioning):
        put_text(conditioning, "", given)
        put_text(conditioning, "negative_", nothing)
    sampled = (await stages.sample_embedding(prior))[-1].embedding
    decode.conditioning.image_embed.CopyFrom(sampled.image_embed)
    decode.generator_state.CopyFrom(sampled.generator_state)
    decode.output = decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS
    assert expected.std() > 0.02
    assert np.abs(image(await stages.decode(decode)) - expected).max() <= 1 / 255


async def test_an_image_embedding_to_steer_away_from_replaces_the_learned_one(
    stages: StageStubs,
) -> None:
    plain = image(await stages.decode(decode_request())).astype(int)
    steered = decode_request()
    negative = random_tensor(tiny_karlo.WIDTH, seed=9, scale=3.0)
    steered.conditioning.negative_image_embed.CopyFrom(negative)
    assert np.abs(image(await stages.decode(steered)).astype(int) - plain).max() > 1


async def test_super_resolution_has_the_models_steps_where_none_are_named(
    stages: StageStubs,
) -> None:
    named, unnamed = decode_request(), decode_request()
    named.super_resolution.steps = 3  # as the catalog entry has it
    unnamed.ClearField("super_resolution")
    first, second = [image(await stages.decode(each)) for each in (named, unnamed)]
    np.testing.assert_array_equal(first, second)


REFUSED: dict[str, tuple[Callable[[decoder_pb2.DecodeRequest], object], str]] = {
    "one step": (lambda r: setattr(r.super_resolution, "steps", 1), "super_resolution.steps"),
    "too many steps": (
        lambda r: setattr(r.super_resolution, "steps", 1001),
        "super_resolution.steps",
    ),
    "noise of another size": (
        lambda r: r.super_resolution.noise.CopyFrom(random_tensor(3, 16, 16, seed=1)),
        "super_resolution.noise.shape",
    ),
    "a scheduler": (lambda r: setattr(r.sampling, "scheduler", "ddim"), "sampling.scheduler"),
    "an eta": (lambda r: setattr(r.sampling, "eta", 0.5), "sampling.eta"),
    "a step cache": (
        lambda r: setattr(r.sampling, "step_cache_interval", 2),
        "sampling.step_cache_interval",
    ),
    "a size between": (lambda r: setattr(r.start, "height", 72), "start.height"),
}


@pytest.mark.parametrize(("change", "field"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_is_named(
    stages: StageStubs, change: Callable[[decoder_pb2.DecodeRequest], object], field: str
) -> None:
    request = decode_request()
    change(request)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert error.value.reason is Reason.INVALID_FIELD
    assert fields(error.value) == [field]


async def test_there_is_no_autoencoder(stages: StageStubs) -> None:
    latents = decoder_pb2.DecodeLatentsRequest(latents=random_tensor(3, 16, 16, seed=1))
    with pytest.raises(KandinskyError) as error:
        await stages.decoder("DecodeLatents", latents)
    assert error.value.reason is Reason.FLOW_UNSUPPORTED


LIES: dict[str, Callable[[sampling_pb2.Snapshot], object]] = {
    "no upscaled image": lambda s: s.ClearField("sampler_state"),
    "one of another size": lambda s: s.sampler_state[0].tensor.CopyFrom(
        random_tensor(3, 16, 16, seed=1)
    ),
    "one that is not finite": lambda s: s.sampler_state[0].tensor.CopyFrom(
        tensors.encode(np.full((1, 3, 64, 64), np.nan, np.float32))
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_snapshot_without_its_small_image_is_refused(
    stages: StageStubs, lie: Callable[[sampling_pb2.Snapshot], object]
) -> None:
    request = decode_request()
    request.super_resolution.steps = 12
    events = await stages.decode(request)
    [snapshot] = [each.snapshot for each in events if each.snapshot.phase == 1]
    assert [each.name for each in snapshot.sampler_state] == ["upscaled"]
    request.resume_from.CopyFrom(snapshot)
    resumed = image(await stages.decode(request))
    np.testing.assert_allclose(resumed.astype(int), image(events).astype(int), atol=1)
    lie(request.resume_from)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value)[0].startswith("resume_from.sampler_state")
