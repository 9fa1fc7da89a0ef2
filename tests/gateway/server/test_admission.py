"""Who is let in: places, tenants, what the metadata may say."""

import asyncio
from contextlib import ExitStack, suppress

import pytest

from gateway.server.in_flight_quota import Places
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.errors import KandinskyError, Reason
from tests.gateway.errors import failure
from tests.gateway.fakes import Hold

REQUEST = generation.TextToImageRequest(model="tiny", prompts=["a"])


async def answer(call):
    return await call


def test_a_tenant_leaves_places_for_the_others():
    places = Places(8)
    with places.hold("a") as hold:
        hold.grow(6)
        with pytest.raises(KandinskyError) as refusal, places.hold("a"):
            pass
        assert refusal.value.reason is Reason.OVERLOADED
        with places.hold("b"), places.hold("c"):
            assert places.taken == 8
            with pytest.raises(KandinskyError), places.hold("d"):
                pass
        with places.hold("d"):
            pass
    assert places.taken == 0


@pytest.mark.parametrize("tenants", [1, 2, 8])
def test_many_tenants_that_take_all_they_can_leave_some(tenants):
    places = Places(128)
    with ExitStack() as held:
        for turn in range(1000):
            with suppress(KandinskyError):
                held.enter_context(places.hold(f"invented {turn % tenants}"))
        assert places.taken >= 128 * 3 // 4
        with places.hold("another"):
            pass


def test_a_request_of_more_images_than_there_are_places_takes_all_it_can_get():
    places = Places(4)
    with places.hold("") as hold:
        hold.grow(100)
        assert hold.places == 3


def test_a_refused_request_keeps_nothing():
    places = Places(4)
    with places.hold("a") as first, pytest.raises(KandinskyError), places.hold("b") as second:
        first.grow(3)
        second.grow(2)
    assert places.taken == 0


def test_the_time_to_come_back_follows_the_measured_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("gateway.server.in_flight_quota.time.monotonic", lambda: now[0])
    places = Places(40)
    with places.hold("a") as hold:
        hold.grow(30)
        for _ in range(11):  # two images every second
            now[0] += 1
            with places.hold("b") as done:
                done.grow(2)
                done.done()
        with pytest.raises(KandinskyError) as refusal, places.hold("a"):
            pass
    assert refusal.value.retry_after == pytest.approx(30 / 2 / 2)


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
async def test_metadata_that_cannot_be_is_named(api, stages, key, value):
    error = await failure(api.TextToImage(REQUEST, metadata=((key, value),)))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [key]
    assert not stages.calls


async def test_tenant_and_priority_reach_the_stages(api, stages):
    metadata = (("x-tenant", "studio 7"), ("x-priority", "-3"))
    await api.TextToImageUnary(REQUEST, metadata=metadata)
    sampling = [call for call in stages.calls if call.method != "EncodeText"]
    assert {call.method for call in sampling} == {"SampleEmbedding", "Decode"}
    for call in sampling:
        assert (call.metadata["x-tenant"], call.metadata["x-priority"]) == ("studio 7", "-3")


async def test_a_request_counts_for_as_many_places_as_it_has_images(gateway_at, stages):
    hold = stages.holds["Decode"] = Hold()
    several = generation.TextToImageRequest(
        model="tiny", prompts=["a"], settings={"images_per_prompt": 5}
    )
    async with gateway_at(max_requests=8) as (_, channel):
        stub = GenerationServiceStub(channel)
        reading = asyncio.create_task(answer(stub.TextToImageUnary(several)))
        await hold.asked.wait()
        error = await failure(stub.TextToImage(several))
        assert error.reason is Reason.OVERLOADED
        assert error.retry_after is not None
        stages.holds.clear()
        hold.released.set()
        assert len((await reading).images) == 5
        assert len((await stub.TextToImageUnary(several)).images) == 5
