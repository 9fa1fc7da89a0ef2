"""A request that cannot be done in time is refused before any stage is called; no other one is."""

import asyncio

import numpy as np
import pytest

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure
from tests.gateway.fakes import Wait
from tests.gateway.request_log import request_log


def stats(forwards, seconds):
    made = sampling_pb2.SamplingStats(forwards=forwards)
    made.running.FromSeconds(seconds)
    return made


TEXT = {"text": {"prompts": ["a"]}}


def request(**fields):
    return generation.GenerateRequest(**{"model": "tiny", "guide": TEXT, **fields})


@pytest.fixture
async def measured(api, stages):
    """After one request: 5 steps of the prior took 100 s, 7 and a pass of the decoder 100 s."""
    stages.stats = {"SampleEmbedding": stats(5, 100), "Decode": stats(8, 100)}
    await api.GenerateImages(request())
    stages.calls.clear()
    return stages


async def test_what_takes_too_long_is_refused_before_it_costs_anything(api, measured):
    """There is time for the prior, and there would be for the decoder, but not for both."""
    for call in (api.Generate, api.GenerateImages):
        error = await failure(call(request(), timeout=150))
        assert error.reason is Reason.DEADLINE_EXCEEDED
        assert error.message.startswith("this takes 187.50 s at the least, and 1")
    assert measured.calls == []
    assert len((await api.GenerateImages(request(), timeout=600)).images) == 1
    assert len((await api.GenerateImages(request())).images) == 1


EMBED = tensors.encode(np.ones(4, np.float32))
CAN_BE_DONE = {
    "fewer steps": request(decoder={"steps": 1}, prior={"steps": 2}),
    "a smaller image": request(decoder={"height": 64, "width": 64}),
    "no guidance in the decoder": request(decoder={"guidance_scale": 1}),
    "latents": request(output={"format": "OUTPUT_FORMAT_LATENTS"}),
    "embeddings": request(
        guide={
            "embeddings": {"conditionings": [{"image_embed": EMBED, "negative_image_embed": EMBED}]}
        }
    ),
    "another model": request(model="priorless"),
    "several images, side by side": request(
        images_per_prompt=4, decoder={"steps": 3}, prior={"steps": 3}
    ),
}


@pytest.mark.parametrize("request_", CAN_BE_DONE.values(), ids=CAN_BE_DONE)
async def test_what_may_take_less_is_admitted(api, measured, request_):
    if request_.model == "priorless":
        measured.readers = ("decoder",)
    assert (await api.GenerateImages(request_, timeout=150)).images


async def test_a_share_of_the_steps_is_less_work(api, measured):
    image = {"pixels": tensors.encode(np.zeros((64, 128, 3), np.uint8))}
    whole, half = (
        request(canvas={"image": {"images": [image], "strength": strength}})
        for strength in (1, 0.5)
    )
    await api.GenerateImages(whole)
    measured.calls.clear()
    assert (await failure(api.Generate(whole, timeout=150))).reason is Reason.DEADLINE_EXCEEDED
    assert measured.calls == []
    assert (await api.GenerateImages(half, timeout=150)).images


async def test_previews_are_not_taken_for_steps(api, stages):
    stages.stats = {"Decode": stats(8, 100)}
    async for _ in api.Generate(request(events={"preview_every": 1})):
        pass
    assert (await api.GenerateImages(request(), timeout=50)).images


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
async def test_what_waits_too_long_is_refused_with_a_time_to_come_back(api, stages, method):
    wait = stages.waits[method] = Wait(1000.0)
    first = api.Generate(request())
    async for event in first:
        if event.HasField("queued") and event.queued.position:
            break
    asked = len(stages.calls)
    for call in (api.Generate, api.GenerateImages):
        async with asyncio.timeout(30):  # an admitted one would wait
            error = await failure(call(request(), timeout=600))
        assert error.reason is Reason.OVERLOADED
        assert 900 < error.retry_after <= 1000
    assert len(stages.calls) == asked

    tenant = api.Generate(request(), timeout=600, metadata=[("x-tenant", "another")])
    patient = api.Generate(request(), timeout=800)  # others may leave early
    for call in (tenant, patient):
        await call.read()
        call.cancel()
    assert len(stages.calls) > asked

    wait.admitted.set()
    assert [event async for event in first if event.HasField("image")]
    del stages.waits[method]
    assert (await api.GenerateImages(request(), timeout=600)).images


async def test_a_cancelled_request_leaves_no_wait_behind(api, stages):
    stages.waits["Decode"] = Wait(1000.0)
    with request_log() as log:
        first = api.Generate(request())
        async for event in first:
            if event.HasField("queued") and event.queued.position:
                break
        del stages.waits["Decode"]
        first.cancel()
        assert await log.ended(1) == ["CANCELLED"]
    assert (await api.GenerateImages(request(), timeout=600)).images


async def cost(api, **fields):
    """The one answer to a request with `validate_only`, by either RPC."""
    asked = request(validate_only=True, **fields)
    [event] = [event async for event in api.Generate(asked)]
    answer = await api.GenerateImages(asked)
    assert event.HasField("estimate")
    assert not answer.images
    return answer.estimate


async def test_validate_only_answers_the_cost_and_calls_no_stage(api, measured):
    estimate = await cost(api, images_per_prompt=2)
    assert measured.calls == []
    assert estimate.images == 2
    # Two jobs of two rows, since both samplers are guided; a latent has 8 x 16 cells.
    assert [(each.stage, each.denoise_cost) for each in estimate.stages] == [
        ("prior", 2 * 2 * 5),
        ("decoder", 2 * 2 * 8 * 16 * 7),
    ]
    assert [each.running.ToMilliseconds() for each in estimate.stages] == [100_000, 87_500]
    assert estimate.least.ToMilliseconds() == 187_500


async def test_validate_only_leaves_out_what_was_not_measured(api):
    estimate = await cost(api)
    assert not estimate.HasField("least")
    for stage in estimate.stages:
        assert stage.denoise_cost > 0
        assert not stage.HasField("running")
        assert not stage.HasField("queued")


async def test_validate_only_answers_the_expected_wait(api, stages):
    stages.waits["Decode"] = Wait(1000.0)
    first = api.Generate(request())
    async for event in first:
        if event.HasField("queued") and event.queued.position:
            break
    prior, decoder = (await cost(api)).stages
    assert not prior.HasField("queued")
    assert 900 < decoder.queued.ToSeconds() <= 1000
    first.cancel()


async def test_validate_only_refuses_what_is_invalid(api, stages):
    error = await failure(api.Generate(request(validate_only=True, decoder={"height": 65})))
    assert [violation.field for violation in error.violations] == ["decoder.height"]
    assert not stages.calls
