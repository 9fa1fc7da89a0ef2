"""The quota of decoded pixels: shares of tenants, the queue for it, cancelled callers."""

import asyncio

import pytest

from gateway.server.pixel_quota import PixelQuota
from kandinsky.wire.errors import KandinskyError, Reason
from kandinsky.wire.images import MAX_PIXELS

HALF = 2 * MAX_PIXELS
"""What one tenant may hold of a quota of four times MAX_PIXELS."""


async def soon():
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Holder:
    """A request that holds pixels until it is let go."""

    def __init__(self, quota, tenant, pixels):
        self.lease = None
        self._over = asyncio.Event()
        self.task = asyncio.create_task(self._hold(quota, tenant, pixels))

    async def _hold(self, quota, tenant, pixels):
        async with quota.lease(tenant, pixels) as self.lease:
            await self._over.wait()

    async def let_go(self):
        self._over.set()
        await self.task


async def test_one_tenant_holds_half_and_others_fit_beside_it():
    quota = PixelQuota(4 * MAX_PIXELS, wait_seconds=60)
    first, second, third = (Holder(quota, "a", MAX_PIXELS) for _ in range(3))
    other = Holder(quota, "b", 100)
    await soon()
    assert quota.held == HALF + 100
    assert third.lease is None
    first.lease.shrink(10)  # not enough for the third
    await soon()
    assert third.lease is None
    await first.let_go()
    await soon()
    assert third.lease is not None
    for one in (second, third, other):
        await one.let_go()
    assert quota.held == 0


async def test_a_large_request_is_not_overtaken():
    quota = PixelQuota(4 * MAX_PIXELS, wait_seconds=60)
    holders = [Holder(quota, tenant, HALF) for tenant in "ab"]
    await soon()
    large = Holder(quota, "c", HALF)
    small = Holder(quota, "d", 1)
    await soon()
    holders[0].lease.shrink(MAX_PIXELS)  # room for the small one, which is due later
    await soon()
    assert large.lease is None
    assert small.lease is None
    await holders[1].let_go()
    await soon()
    assert large.lease is not None
    assert small.lease is not None
    for one in (holders[0], large, small):
        await one.let_go()
    assert quota.held == 0


async def test_no_room_in_time_is_overloaded_with_a_time_to_come_back():
    quota = PixelQuota(4 * MAX_PIXELS, wait_seconds=0)
    holder = Holder(quota, "a", HALF)
    await soon()
    with pytest.raises(KandinskyError) as refusal:
        async with quota.lease("a", 1):
            pass
    assert refusal.value.reason is Reason.OVERLOADED
    assert refusal.value.retry_after is not None
    await holder.let_go()
    assert quota.held == 0


async def test_a_tenant_with_too_much_waiting_is_refused_at_once():
    quota = PixelQuota(4 * MAX_PIXELS, wait_seconds=60)
    holders = [Holder(quota, "a", HALF) for _ in range(5)]
    await soon()
    with pytest.raises(KandinskyError) as refusal:
        async with quota.lease("a", 1):
            pass
    assert refusal.value.reason is Reason.OVERLOADED
    async with quota.lease("b", 1):
        pass
    for one in holders:
        await one.let_go()
    assert quota.held == 0


async def test_a_cancelled_wait_holds_nothing():
    quota = PixelQuota(4 * MAX_PIXELS, wait_seconds=60)
    holder, waiting = Holder(quota, "a", HALF), Holder(quota, "a", HALF)
    await soon()
    waiting.task.cancel()
    await holder.let_go()
    with pytest.raises(asyncio.CancelledError):
        await waiting.task
    assert quota.held == 0
