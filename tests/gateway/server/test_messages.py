"""Bounds of memory and time on what callers send and read."""

import asyncio
from contextlib import suppress

import grpc.aio
import pytest

from gateway.server import messages, read_slots
from gateway.server.app import SERVICE
from gateway.server.read_slots import FASTEST, SLOTS, SLOTS_OF_A_TENANT, ReadSlots
from gateway.server.tenant_quota import TenantQuota
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.channels import MESSAGE_BYTES, OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason
from tests.gateway.errors import failure
from tests.gateway.fakes import Hold
from tests.gateway.request_log import request_log

REQUEST = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})
LARGE_ANSWER = generation.GenerateRequest(
    model="tiny",
    guide={"text": {"prompts": ["a"]}},
    decoder={"height": 1024, "width": 1024},
    output={"format": "OUTPUT_FORMAT_FLOAT_PIXELS"},
)
GUARD = 20
"""Seconds after which what should have ended is a failure, not a hang."""
A, C = ((("x-tenant", name),) for name in "ac")


def apart(gateway):
    """A channel with a connection of its own, which takes little that nobody reads.

    The window of a connection that nobody reads shuts for all its calls.
    """
    options = [
        *OPTIONS,
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http2.lookahead_bytes", 1024),
        ("grpc.http2.bdp_probe", 0),
    ]
    return grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=options)


THREE_IMAGES = generation.GenerateRequest(
    model="tiny", guide={"text": {"prompts": ["a"]}}, images_per_prompt=3
)


async def end(call):
    """Read a stream; return the error that ends it, None if none does."""
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error


@pytest.mark.parametrize("rpc", ["Generate", "GenerateImages"])
async def test_readers_that_never_read_lose_their_leases(gateway_at, monkeypatch, rpc):
    """A tenant leases all the images that it may, and cancels nothing."""
    monkeypatch.setattr(messages, "SLOWEST", 2**40)
    with request_log() as log:
        await leave_unread(gateway_at, rpc, log)


async def leave_unread(gateway_at, rpc, log):
    async with (
        gateway_at(max_requests=4, write_seconds=0.5) as (gateway, channel),
        apart(gateway) as unread_channel,
    ):
        stream = unread_channel.unary_stream(
            f"/{SERVICE.full_name}/{rpc}", generation.GenerateRequest.SerializeToString
        )
        unread = [stream(LARGE_ANSWER, metadata=A) for _ in range(3)]
        for call in unread:
            await call.initial_metadata()
        api = GenerationServiceStub(channel)
        assert (await failure(api.GenerateImages(REQUEST, metadata=A))).reason is (
            Reason.OVERLOADED
        )
        async with asyncio.timeout(GUARD):
            outcomes = await log.ended(4)
        assert sorted(outcomes) == [*["DEADLINE_EXCEEDED"] * 3, "OVERLOADED"]
        # Three images are three of the quota of four.
        assert len((await api.GenerateImages(THREE_IMAGES, metadata=C)).images) == 3
        ends = [await end(call) for call in unread]
        late = [error for error in ends if error is not None]
        assert len(late) == 3
        for error in late:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "was not read for" in error.details()


async def test_a_request_that_takes_too_long_ends(gateway_at, stages):
    hold = stages.holds["Decode"] = Hold()
    async with gateway_at(default_deadline_seconds=0.5) as (_, channel):
        error = await failure(GenerationServiceStub(channel).Generate(REQUEST))
        assert error.reason is Reason.DEADLINE_EXCEEDED
        await hold.cancelled.wait()


async def test_the_configured_deadline_bounds_what_no_stage_does(gateway_at):
    async with gateway_at(default_deadline_seconds=0.2) as (_, channel):
        call = channel.stream_unary(f"/{SERVICE.full_name}/GenerateImages")()
        async with asyncio.timeout(GUARD):
            error = await failure(call)
        assert error.message == "the request's deadline passed"


async def test_a_message_that_never_arrives_ends_its_request(gateway_at):
    async with gateway_at(max_requests=1, read_seconds=0.2) as (_, channel):
        stub = channel.stream_unary(f"/{SERVICE.full_name}/GenerateImages")
        call = stub(timeout=GUARD)
        await call.initial_metadata()
        error = await failure(call)
        assert error.reason is Reason.DEADLINE_EXCEEDED
        assert "did not arrive" in error.message
        assert len((await GenerationServiceStub(channel).GenerateImages(REQUEST)).images) == 1


async def test_requests_at_work_hold_a_bounded_number_of_bytes(gateway_at, stages):
    hold = stages.holds["EncodeText"] = Hold()
    heavy = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})
    heavy.MergeFromString(b"\xfa\x07\x80\x80\x80\x18" + bytes(48 * 2**20))  # an unknown field
    async with gateway_at(request_bytes=2 * MESSAGE_BYTES) as (_, channel):
        api = GenerationServiceStub(channel)
        first = asyncio.create_task(answer(api.GenerateImages(heavy, metadata=A)))
        await hold.asked.wait()
        second = api.GenerateImages(heavy, metadata=A, timeout=GUARD)
        error = await failure(second)
        assert error.reason is Reason.OVERLOADED
        assert error.retry_after > 0
        stages.holds.clear()
        hold.released.set()
        assert len((await first).images) == 1
        assert len((await api.GenerateImages(heavy, metadata=A)).images) == 1


async def answer(call):
    return await call


def test_a_tenant_leaves_bytes_for_the_others():
    quota = TenantQuota(100, times_free=3, least=25, unit="bytes")
    with quota.lease("a", 75):
        with pytest.raises(KandinskyError), quota.lease("a", 1):
            pass
        with quota.lease("b", 25), pytest.raises(KandinskyError), quota.lease("c", 1):
            pass
        with quota.lease("c", 25):
            pass
    with quota.lease("a", 75):
        pass


class Reader:
    """A read that goes on until it is let go."""

    def __init__(self, slots, tenant):
        self.reads, self.done = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._read(slots, tenant))

    async def _read(self, slots, tenant):
        async with slots.lease(tenant):
            self.reads.set()
            await self.done.wait()


async def test_few_messages_are_read_at_once_and_fewer_of_a_tenant():
    slots = ReadSlots(60)
    own = [Reader(slots, "a") for _ in range(SLOTS_OF_A_TENANT + 1)]
    await asyncio.gather(*(one.reads.wait() for one in own[:-1]))
    others = [Reader(slots, f"b{k}") for k in range(SLOTS - SLOTS_OF_A_TENANT + 1)]
    await asyncio.gather(*(one.reads.wait() for one in others[:-1]))
    assert not own[-1].reads.is_set()
    assert not others[-1].reads.is_set()
    others[0].done.set()
    await others[-1].reads.wait()
    assert not own[-1].reads.is_set()
    own[0].done.set()
    await own[-1].reads.wait()
    for one in own + others:
        one.done.set()
    await asyncio.gather(*(one.task for one in own + others))


async def test_the_slots_of_large_messages_stay_taken_for_a_while():
    slots = ReadSlots(60)
    for _ in range(SLOTS_OF_A_TENANT):
        async with slots.lease("a") as slot:
            slot.size = 3600 * FASTEST
    again, other = Reader(slots, "a"), Reader(slots, "b")
    await other.reads.wait()
    assert not again.reads.is_set()
    other.done.set()
    again.task.cancel()
    await other.task


async def test_a_slow_message_loses_its_slot_when_others_wait(monkeypatch):
    monkeypatch.setattr(read_slots, "PATIENCE", 0.01)
    slots = ReadSlots(60)
    slow = [Reader(slots, f"a{k}") for k in range(SLOTS)]
    await asyncio.gather(*(one.reads.wait() for one in slow))
    other = Reader(slots, "b")
    await asyncio.wait_for(other.reads.wait(), GUARD)
    with pytest.raises(KandinskyError) as raised:
        await slow[0].task
    assert raised.value.reason is Reason.OVERLOADED
    assert not any(one.task.done() for one in slow[1:])
    for one in [*slow, other]:
        one.task.cancel()
    for one in [*slow[1:], other]:
        with suppress(asyncio.CancelledError):
            await one.task
