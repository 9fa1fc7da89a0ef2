"""The image codec pool: fairness over tenants, priorities of work, cancelled callers."""

import asyncio
import threading

import pytest

from gateway.server.codec_pool import ImageCodecPool, Work


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


async def test_tenants_are_served_round_robin_and_results_go_first(pool, gate):
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


async def test_a_cancelled_caller_waits_for_its_unit_and_frees_its_thread(pool, gate):
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
