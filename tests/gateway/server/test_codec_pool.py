"""The image codec pool and the pixel budget: turns, priorities, bounds, cancelled callers."""

import asyncio
import threading

import pytest

from gateway.server.codec_pool import ImageCodecPool, Work
from gateway.server.pixel_budget import PixelBudget
from kandinsky.wire.errors import KandinskyError, Reason
from kandinsky.wire.images import MAX_PIXELS

HALF = 2 * MAX_PIXELS
"""What one tenant may hold of a budget of four times MAX_PIXELS."""


async def soon():
    """Lets every task go as far as it can without a thread."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def pool():
    pools = []

    def make(threads):
        pools.append(ImageCodecPool(threads))
        return pools[-1]

    yield make
    for one in pools:
        one.close()


@pytest.fixture
def gate():
    """Holds a thread until it is set, which happens at the latest when the test ends."""
    event = threading.Event()
    yield event
    event.set()


async def test_tenants_take_turns_and_results_go_first(pool, gate):
    codecs, ended = pool(1), []
    units = [(Work.DECODE, "a", name) for name in ("a1", "a2", "a3", "a4")]
    units += [(Work.DECODE, "b", "b1"), (Work.CHECK, "a", "check"), (Work.ENCODE, "a", "result")]
    running = asyncio.create_task(codecs.run(Work.DECODE, "a", gate.wait, 60))
    await soon()
    waiting = [
        asyncio.create_task(codecs.run(work, tenant, ended.append, name))
        for work, tenant, name in units
    ]
    await soon()
    assert not ended
    gate.set()
    await asyncio.gather(running, *waiting)
    assert ended == ["result", "check", "a1", "b1", "a2", "a3", "a4"]


async def test_decoding_leaves_a_thread_to_other_work(pool, gate):
    codecs = pool(2)
    decodes = [
        asyncio.create_task(codecs.run(Work.DECODE, tenant, gate.wait, 60)) for tenant in "abc"
    ]
    await soon()
    assert await codecs.run(Work.ENCODE, "d", int, "7") == 7
    assert await codecs.run(Work.CHECK, "d", int, "8") == 8
    gate.set()
    assert await asyncio.gather(*decodes) == [True] * 3


async def test_all_threads_are_used(pool):
    codecs, together = pool(4), threading.Barrier(3)
    units = (codecs.run(Work.DECODE, "a", together.wait, 60) for _ in range(3))
    assert sorted(await asyncio.gather(*units)) == [0, 1, 2]


async def test_a_cancelled_caller_waits_for_its_unit_and_frees_its_place(pool, gate):
    codecs = pool(1)
    running = asyncio.create_task(codecs.run(Work.DECODE, "a", gate.wait, 60))
    queued = asyncio.create_task(codecs.run(Work.DECODE, "a", int, "1"))
    await soon()
    queued.cancel()
    running.cancel()
    await soon()
    assert queued.cancelled()
    assert not running.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await codecs.run(Work.DECODE, "a", int, "2") == 2


async def test_an_error_of_a_unit_is_its_callers(pool):
    codecs = pool(1)
    with pytest.raises(ValueError, match="invalid literal"):
        await codecs.run(Work.CHECK, "a", int, "x")
    assert await codecs.run(Work.CHECK, "a", int, "2") == 2


class Holder:
    """A request that holds pixels until it is let go."""

    def __init__(self, budget, tenant, pixels):
        self.lease = None
        self._over = asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, tenant, pixels))

    async def _hold(self, budget, tenant, pixels):
        async with budget.lease(tenant, pixels) as self.lease:
            await self._over.wait()

    async def let_go(self):
        self._over.set()
        await self.task


async def test_one_tenant_holds_half_and_others_fit_beside_it():
    budget = PixelBudget(4 * MAX_PIXELS, wait_seconds=60)
    first, second, third = (Holder(budget, "a", MAX_PIXELS) for _ in range(3))
    other = Holder(budget, "b", 100)
    await soon()
    assert budget.held == HALF + 100
    assert third.lease is None
    first.lease.shrink(10)  # not enough for the third
    await soon()
    assert third.lease is None
    await first.let_go()
    await soon()
    assert third.lease is not None
    for one in (second, third, other):
        await one.let_go()
    assert budget.held == 0


async def test_a_large_request_keeps_its_turn():
    budget = PixelBudget(4 * MAX_PIXELS, wait_seconds=60)
    holders = [Holder(budget, tenant, HALF) for tenant in "ab"]
    await soon()
    large = Holder(budget, "c", HALF)
    small = Holder(budget, "d", 1)
    await soon()
    holders[0].lease.shrink(MAX_PIXELS)  # room for the small one, whose turn comes later
    await soon()
    assert large.lease is None
    assert small.lease is None
    await holders[1].let_go()
    await soon()
    assert large.lease is not None
    assert small.lease is not None
    for one in (holders[0], large, small):
        await one.let_go()
    assert budget.held == 0


async def test_no_room_in_time_is_overloaded_with_a_time_to_come_back():
    budget = PixelBudget(4 * MAX_PIXELS, wait_seconds=0)
    holder = Holder(budget, "a", HALF)
    await soon()
    with pytest.raises(KandinskyError) as refusal:
        async with budget.lease("a", 1):
            pass
    assert refusal.value.reason is Reason.OVERLOADED
    assert refusal.value.retry_after is not None
    await holder.let_go()
    assert budget.held == 0


async def test_a_tenant_with_too_much_waiting_is_refused_at_once():
    budget = PixelBudget(4 * MAX_PIXELS, wait_seconds=60)
    holders = [Holder(budget, "a", HALF) for _ in range(5)]
    await soon()
    with pytest.raises(KandinskyError) as refusal:
        async with budget.lease("a", 1):
            pass
    assert refusal.value.reason is Reason.OVERLOADED
    async with budget.lease("b", 1):
        pass
    for one in holders:
        await one.let_go()
    assert budget.held == 0


async def test_a_cancelled_wait_holds_nothing():
    budget = PixelBudget(4 * MAX_PIXELS, wait_seconds=60)
    holder, waiting = Holder(budget, "a", HALF), Holder(budget, "a", HALF)
    await soon()
    waiting.task.cancel()
    await holder.let_go()
    with pytest.raises(asyncio.CancelledError):
        await waiting.task
    assert budget.held == 0
