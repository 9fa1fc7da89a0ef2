"""Admission: the in-flight quota of a request, its tenant and priority."""

import asyncio

import pytest

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure
from tests.gateway.fakes import Hold

REQUEST = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})


async def answer(call):
    return await call


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x-tenant", ""),
        ("x-tenant", "t" * 65),
        ("x-priority", "high"),
        ("x-priority", "101"),
        ("x-priority", "9" * 5000),
        ("x-priority", "1.5"),
    ],
)
async def test_invalid_metadata_is_named(api, stages, key, value):
    error = await failure(api.Generate(REQUEST, metadata=((key, value),)))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [key]
    assert not stages.calls


async def test_tenant_and_priority_reach_the_stages(api, stages):
    metadata = (("x-tenant", "studio 7"), ("x-priority", "-3"))
    await api.GenerateImages(REQUEST, metadata=metadata)
    sampling = [call for call in stages.calls if call.method != "EncodeText"]
    assert {call.method for call in sampling} == {"SampleEmbedding", "Decode"}
    for call in sampling:
        assert (call.metadata["x-tenant"], call.metadata["x-priority"]) == ("studio 7", "-3")


async def test_decoder_calls_say_what_could_share_a_forward(api, stages):
    size = {"decoder": {"height": 128, "width": 64}}
    await api.GenerateImages(generation.GenerateRequest(model="tiny", guide=REQUEST.guide, **size))
    kinds = {call.method: call.metadata.get("multiplexed_model_id") for call in stages.calls}
    assert kinds == {"EncodeText": None, "SampleEmbedding": None, "Decode": "plain 64x128"}


async def test_a_request_counts_for_as_many_images_as_it_has(gateway_at, stages):
    hold = stages.holds["Decode"] = Hold()
    several = generation.GenerateRequest(
        model="tiny", guide={"text": {"prompts": ["a"]}}, images_per_prompt=5
    )
    async with gateway_at(max_requests=8) as (_, channel):
        stub = GenerationServiceStub(channel)
        reading = asyncio.create_task(answer(stub.GenerateImages(several)))
        await hold.asked.wait()
        error = await failure(stub.Generate(several))
        assert error.reason is Reason.OVERLOADED
        assert error.retry_after is not None
        stages.holds.clear()
        hold.released.set()
        assert len((await reading).images) == 5
        assert len((await stub.GenerateImages(several)).images) == 5
