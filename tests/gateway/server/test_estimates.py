"""A request that cannot be done in time is refused before any stage is asked; no other one is."""

import asyncio

import grpc.aio
import numpy as np
import pytest

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason, from_rpc_error
from tests.gateway.errors import failure
from tests.gateway.fakes import Wait


def stats(forwards, seconds):
    made = sampling_pb2.SamplingStats(forwards=forwards)
    made.running.FromSeconds(seconds)
    return made


def request(**settings):
    return generation.TextToImageRequest(model="tiny", prompts=["a"], settings=settings)


@pytest.fixture
async def measured(api, stages):
    """After one request: 5 steps of the prior took 100 s, 7 and a pass of the decoder 100 s."""
    stages.stats = {"SampleEmbedding": stats(5, 100), "Decode": stats(8, 100)}
    await api.TextToImageUnary(request())
    stages.calls.clear()
    return stages


async def test_what_takes_too_long_is_refused_before_it_costs_anything(api, measured):
    """There is time for the prior, and there would be for the decoder, but not for both."""
    for call in (api.TextToImage, api.TextToImageUnary):
        error = await failure(call(request(), timeout=150))
        assert error.reason is Reason.DEADLINE_EXCEEDED
        assert error.message.startswith("this takes 187.50 s at the least, and 1")
    assert measured.calls == []
    assert len((await api.TextToImageUnary(request(), timeout=600)).images) == 1
    assert len((await api.TextToImageUnary(request())).images) == 1


CAN_BE_DONE = {
    "fewer steps": request(steps=1, prior_steps=2),
    "a smaller picture": request(height=64, width=64),
    "no guidance in the decoder": request(guidance_scale=1),
    "latents": request(output_format="OUTPUT_FORMAT_LATENTS"),
    "embeddings": generation.TextToImageRequest(
        model="tiny",
        image_embeds=tensors.encode(np.ones((1, 4), np.float32)),
        negative_image_embeds=tensors.encode(np.ones((1, 4), np.float32)),
    ),
    "another model": generation.TextToImageRequest(model="priorless", prompts=["a"]),
    "several images, side by side": request(images_per_prompt=4, steps=3, prior_steps=3),
}


@pytest.mark.parametrize("request_", CAN_BE_DONE.values(), ids=CAN_BE_DONE)
async def test_what_may_take_less_is_let_in(api, measured, request_):
    if request_.model == "priorless":
        measured.readers = ("decoder",)
    assert (await api.TextToImageUnary(request_, timeout=150)).images


async def test_a_share_of_the_steps_is_less_work(api, measured):
    image = {"pixels": tensors.encode(np.zeros((64, 128, 3), np.uint8))}
    fields = {"model": "tiny", "prompts": ["a"], "image": image}
    await api.ImageToImageUnary(generation.ImageToImageRequest(**fields, strength=1))
    measured.calls.clear()
    whole = generation.ImageToImageRequest(**fields, strength=1)
    assert (await failure(api.ImageToImage(whole, timeout=150))).reason is Reason.DEADLINE_EXCEEDED
    assert measured.calls == []
    half = generation.ImageToImageRequest(**fields, strength=0.5)
    assert (await api.ImageToImageUnary(half, timeout=150)).images


async def test_previews_are_not_taken_for_steps(api, stages):
    stages.stats = {"Decode": stats(8, 100)}
    await api.TextToImageUnary(request(preview_every=1))
    assert (await api.TextToImageUnary(request(), timeout=50)).images


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
async def test_what_waits_too_long_is_refused_with_a_time_to_come_back(api, stages, method):
    wait = stages.waits[method] = Wait(1000.0)
    first = api.TextToImage(request())
    async for event in first:
        if event.HasField("queued") and event.queued.position:
            break
    asked = len(stages.calls)
    for call in (api.TextToImage, api.TextToImageUnary):
        async with asyncio.timeout(30):  # one that is let in would wait
            error = await failure(call(request(), timeout=600))
        assert error.reason is Reason.OVERLOADED
        assert 900 < error.retry_after <= 1000
    assert len(stages.calls) == asked

    tenant = api.TextToImage(request(), timeout=600, metadata=[("x-tenant", "another")])
    patient = api.TextToImage(request(), timeout=800)  # others may leave early
    for call in (tenant, patient):
        await call.read()
        call.cancel()
    assert len(stages.calls) > asked

    wait.let_in.set()
    assert [event async for event in first if event.HasField("image")]
    del stages.waits[method]
    assert (await api.TextToImageUnary(request(), timeout=600)).images


async def test_a_request_that_has_gone_leaves_no_wait_behind(api, stages):
    stages.waits["Decode"] = Wait(1000.0)
    first = api.TextToImage(request())
    async for event in first:
        if event.HasField("queued") and event.queued.position:
            break
    del stages.waits["Decode"]
    first.cancel()
    outcomes = []
    while outcomes[-1:] != ["OK"]:  # until the gateway has seen that the caller went
        try:
            await api.TextToImageUnary(request(), timeout=600)
            outcomes.append("OK")
        except grpc.aio.AioRpcError as error:
            outcomes.append(from_rpc_error(error).reason)
    assert set(outcomes) <= {"OK", Reason.OVERLOADED}
