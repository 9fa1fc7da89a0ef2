"""A job goes on from any of its checkpoints in another engine, and ends with the same result."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky.catalog.schedulers import SCHEDULERS
from kandinsky.v1 import decoder_pb2, prior_pb2, sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason
from tests.services.asking import decode_request, prior_request, random_tensor
from tests.services.conftest import StageStubs, fields
from tests.stagehost import host_stages

EVERY_STEP = {"snapshot_every": 1}


@pytest.fixture
async def both(tiny_checkpoint: Path) -> AsyncIterator[tuple[StageStubs, StageStubs]]:
    """Two replicas of the stages; each sends a checkpoint after every step."""
    async with (
        host_stages("tiny", tiny_checkpoint, engine=EVERY_STEP) as first,
        host_stages("tiny", tiny_checkpoint, engine=EVERY_STEP) as second,
        grpc.aio.insecure_channel(first.address, options=OPTIONS) as one,
        grpc.aio.insecure_channel(second.address, options=OPTIONS) as other,
    ):
        for engine in (first.decoder, first.prior):
            engine.waits_for_readers = True
        yield StageStubs(one, first), StageStubs(other, second)


def checkpoints(events: list[Any]) -> list[sampling_pb2.Snapshot]:
    return [event.snapshot for event in events if event.HasField("snapshot")]


def exact(request: decoder_pb2.DecodeRequest) -> decoder_pb2.DecodeRequest:
    request.output = decoder_pb2.DECODE_OUTPUT_LATENTS
    return request


async def latents_of_every_resume(
    both: tuple[StageStubs, StageStubs], request: decoder_pb2.DecodeRequest
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The undisturbed result, and the one from each checkpoint on the other replica."""
    events = await both[0].decode(exact(request))
    found = []
    for checkpoint in checkpoints(events):
        resumed = decoder_pb2.DecodeRequest()
        resumed.CopyFrom(request)
        resumed.resume_from.CopyFrom(checkpoint)
        steps = len(both[1].host.decoder.counters.trace)
        found.append(tensors.decode((await both[1].decode(resumed))[-1].image.tensor, "image"))
        first = list(both[1].host.decoder.counters.trace)[steps:]
        loop = [forward for forward in first if "encode" not in forward.network]
        assert dict(loop[0].jobs)[""] == checkpoint.step, "it did not go on where it was"
    return tensors.decode(events[-1].image.tensor, "image"), found


@pytest.mark.parametrize("name", SCHEDULERS)
async def test_with_every_scheduler_from_every_step(both, name: str) -> None:
    request = decode_request("noise", steps=6)
    request.sampling.scheduler = name
    whole, resumed = await latents_of_every_resume(both, request)
    assert len(resumed) >= 5
    for latents in resumed:
        np.testing.assert_array_equal(latents, whole)


@pytest.mark.parametrize("name", ["ddpm", "dpm-solver++", "pndm"])
@pytest.mark.parametrize("start", ["image", "inpaint"])
async def test_from_a_image_and_under_a_mask(both, start: str, name: str) -> None:
    request = decode_request(start, steps=8)
    request.sampling.scheduler = name
    getattr(request.start, start).strength = 0.8
    whole, resumed = await latents_of_every_resume(both, request)
    assert len(resumed) >= 5
    for latents in resumed:
        np.testing.assert_array_equal(latents, whole)


async def test_eta_draws_the_same_noise_after_a_resume(both) -> None:
    request = decode_request("noise", steps=5)
    request.sampling.scheduler, request.sampling.eta = "ddim", 1.0
    whole, resumed = await latents_of_every_resume(both, request)
    for latents in resumed:
        np.testing.assert_array_equal(latents, whole)


@pytest.mark.parametrize("start_embed", [False, True])
async def test_the_prior_goes_on_too(both, start_embed: bool) -> None:
    request = prior_request(steps=8)
    if start_embed:
        request.start_embed.CopyFrom(
            random_tensor(request.conditioning.text_embed.shape[0], seed=3)
        )
        request.strength = 0.8
    events = await both[0].sample_embedding(request)
    assert len(checkpoints(events)) >= 5
    for checkpoint in checkpoints(events):
        resumed = prior_pb2.SampleEmbeddingRequest()
        resumed.CopyFrom(request)
        resumed.resume_from.CopyFrom(checkpoint)
        answer = (await both[1].sample_embedding(resumed))[-1].embedding
        assert answer.image_embed == events[-1].embedding.image_embed


async def test_a_drained_engine_sends_a_last_checkpoint_and_nothing_is_done_twice(both) -> None:
    request = exact(decode_request("noise", steps=200))
    whole = (await both[1].decode(request))[-1].image.tensor
    first, steps = both[0], []
    with pytest.raises(KandinskyError) as error:
        async for event in first.decoding(request):
            if event.HasField("snapshot"):
                last = event.snapshot
                steps.append(last.step)
                if last.step == 20:
                    first.host.decoder.drain()
    assert error.value.reason is Reason.DRAINING
    assert error.value.retry_after > 0
    assert first.host.decoder.counters.drained == 1
    taken = dict(first.host.decoder.counters.trace[-1].jobs)[""] + 1
    assert last.step == taken < 200
    request.resume_from.CopyFrom(last)
    assert (await both[1].decode(request))[-1].image.tensor == whole
    with pytest.raises(KandinskyError) as error:
        await first.decode(request)
    assert error.value.reason is Reason.DRAINING


Damage = Callable[[sampling_pb2.Snapshot], None]


def scalar(value: int) -> tensor_pb2.Tensor:
    return tensors.encode(np.array(value))


BAD: dict[str, tuple[Damage, str]] = {
    "phase": (lambda c: setattr(c, "phase", 7), "resume_from.phase"),
    "no step": (lambda c: setattr(c, "step", 0), "resume_from.step"),
    "step after the last": (lambda c: setattr(c, "step", 5), "resume_from.step"),
    "latents": (
        lambda c: c.latents.CopyFrom(random_tensor(4, 3, 3, seed=1)),
        "resume_from.latents.shape",
    ),
    "no latents": (lambda c: c.ClearField("latents"), "resume_from.latents"),
    "generator": (
        lambda c: c.generator_state.CopyFrom(tensors.encode(np.zeros(5056, np.uint8))),
        "resume_from.generator_state",
    ),
    "unknown state": (
        lambda c: c.sampler_state.add(name="step", tensor=scalar(1)),
        "resume_from.sampler_state",
    ),
    "place without a list": (
        lambda c: c.sampler_state.add(name="model_outputs.0", tensor=scalar(1)),
        "resume_from.sampler_state",
    ),
    "endless list": (
        lambda c: c.sampler_state.add(name="model_outputs.length", tensor=scalar(10**9)),
        "resume_from.sampler_state",
    ),
}


@pytest.mark.parametrize(("damage", "field"), BAD.values(), ids=BAD.keys())
async def test_what_is_no_checkpoint_is_refused(both, damage: Damage, field: str) -> None:
    stages = both[0]
    request = decode_request("noise", steps=5)
    request.sampling.scheduler = "dpm-solver++"
    request.resume_from.CopyFrom(checkpoints(await stages.decode(request))[2])
    damage(request.resume_from)
    if field == "resume_from.sampler_state" and "model" in str(request.resume_from):
        del request.resume_from.sampler_state[:-1]
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert [path.removesuffix(".dtype").removesuffix(".data") for path in fields(error.value)] == [
        field
    ]
