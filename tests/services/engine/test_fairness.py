"""One tenant's flood and another's single job; large images and small ones."""

import asyncio
import time

import pytest
import torch

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.events import Queued
from tests.services.engine.toys import ToyNetwork, engine, result, submitted, toy_job

STEPS = 20
ROWS = 8


async def steps_of_a_single_job(queued: int) -> tuple[int, int]:
    """Engine steps until a tenant's only job begins, and until it ends.

    Another tenant fills the running batch, and keeps so many jobs queued beside it.
    """
    network = ToyNetwork()
    async with engine(max_batch_rows=ROWS) as batcher:
        batcher.hold()
        others = [
            await submitted(
                batcher, toy_job(network, STEPS - k % 4, seed=k, rows=2, tenant="a", id=f"a{k}")
            )
            for k in range(ROWS // 2 + queued)
        ]
        await batcher.held_at("a0", 5)
        begun = batcher.counters.forwards
        single = toy_job(network, STEPS, rows=2, tenant="b", id="single")
        task = await submitted(batcher, single)
        batcher.release()
        await task
        trace = [dict(forward.jobs) for forward in batcher.counters.trace]
        mine = [place for place, jobs in enumerate(trace) if "single" in jobs]
        await asyncio.gather(*others)
    assert single.stats.shared_forwards > 0
    return mine[0] - begun, mine[-1] + 1 - begun


async def test_a_flood_of_another_tenant_costs_a_single_job_at_most_one_jobs_steps():
    waited, took = await steps_of_a_single_job(queued=64)
    _, took_without_queue = await steps_of_a_single_job(queued=0)
    assert waited <= STEPS + 1  # the last pass of the job that makes room is a step too
    assert took <= 1.5 * took_without_queue


async def test_a_full_queue_turns_away_the_tenant_that_fills_it():
    network = ToyNetwork()
    async with engine(max_batch_rows=2, max_queue=4) as batcher:
        network.open.clear()
        running = await submitted(batcher, toy_job(network, 3, rows=2, tenant="a"))
        await asyncio.to_thread(network.entered.wait)
        flood = [
            await submitted(batcher, toy_job(network, 3, rows=2, tenant="a")) for _ in range(4)
        ]
        with pytest.raises(KandinskyError) as refusal:
            await result(batcher, toy_job(network, 3, rows=2, tenant="a"))
        assert refusal.value.reason is Reason.OVERLOADED
        single = await submitted(batcher, toy_job(network, 3, rows=2, tenant="b"))
        network.open.set()
        done = await asyncio.gather(running, single, *flood, return_exceptions=True)
    turned_away = [one for one in done if isinstance(one, KandinskyError)]
    assert [error.reason for error in turned_away] == [Reason.OVERLOADED]
    assert done.index(turned_away[0]) == len(done) - 1, "not the last one in its line"
    assert batcher.counters.refused == 2


async def test_a_tenant_that_preempts_its_own_gets_no_more_than_its_share():
    network = ToyNetwork()
    async with engine(max_batch_rows=2) as batcher:
        batcher.hold()
        low = await submitted(batcher, toy_job(network, STEPS, rows=2, tenant="a", id="low"))
        await batcher.held_at("low", 1)
        tasks = [low]
        for k in range(12):
            high = toy_job(network, 4, k, rows=2, tenant="a", priority=1, id=f"high {k}")
            other = toy_job(network, 4, k, rows=2, tenant="b", id=f"other {k}")
            tasks += [await submitted(batcher, each) for each in (high, other)]
        batcher.release()
        await asyncio.gather(*tasks)
        served = [forward.jobs[0][0].split()[0] for forward in batcher.counters.trace]
    assert served[:7] == ["low", "low", *["high"] * 5], "it was not paused"
    # "low" was paid for whole: what it has not had goes to those before it.
    assert served.index("other") <= STEPS + 5
    contended = served[STEPS : max(p for p, name in enumerate(served) if name == "other")]
    assert abs(contended.count("other") - len(contended) / 2) <= STEPS


async def test_a_full_queue_turns_nobody_away_that_is_paused():
    network = ToyNetwork()
    async with engine(max_batch_rows=2, max_queue=1) as batcher:
        batcher.hold()
        low = await submitted(batcher, toy_job(network, 9, rows=2, tenant="a", id="low"))
        await batcher.held_at("low", 1)
        high = await submitted(
            batcher, toy_job(network, 9, rows=2, tenant="a", priority=1, id="high")
        )
        await batcher.held_at("high", 1)
        with pytest.raises(KandinskyError) as refusal:
            await result(batcher, toy_job(network, 9, rows=2, tenant="b"))
        batcher.release()
        await asyncio.gather(low, high)
    assert refusal.value.reason is Reason.OVERLOADED


async def test_large_and_small_jobs_get_equal_shares_of_the_device():
    small, large = ToyNetwork("small"), ToyNetwork("large")
    async with engine() as batcher:
        small.open.clear()
        large.open.clear()
        tasks = [
            await submitted(batcher, toy_job(small, 400, latent_area=10)),
            await submitted(batcher, toy_job(large, 40, latent_area=100)),
        ]
        small.open.set()
        large.open.set()
        await asyncio.gather(*tasks)
    loops = [forward.network for forward in batcher.counters.trace][5:300]
    share = 10 * loops.count("small") / (100 * loops.count("large"))
    assert 0.8 < share < 1.25
    longest_wait = max(len(run) for run in "".join(name[0] for name in loops).split("l"))
    assert longest_wait <= 11


async def test_a_queue_that_takes_too_long_for_a_deadline_is_said_at_once():
    network = ToyNetwork()
    async with engine(max_batch_rows=2) as batcher:
        batcher.step_times.record(toy_job(network, 1).phases[0], rows=1, seconds=0.5, is_warm=True)
        network.open.clear()
        waiting = [await submitted(batcher, toy_job(network, 20, rows=2)) for _ in range(10)]
        with pytest.raises(KandinskyError) as refusal:
            await result(batcher, toy_job(network, 20, rows=2, deadline=time.monotonic() + 30))
        assert refusal.value.reason is Reason.OVERLOADED
        assert refusal.value.retry_after > 10
        assert "s of work wait" in refusal.value.message
        for task in waiting:
            task.cancel()
        network.open.set()


async def test_who_waits_learns_where_and_for_how_long():
    network = ToyNetwork()
    async with engine(max_batch_rows=2) as batcher:
        first = await submitted(batcher, toy_job(network, 10, rows=2))
        await first
        network.open.clear()
        waiting = [await submitted(batcher, toy_job(network, 10, rows=2)) for _ in range(3)]
        events = batcher.run(toy_job(network, 10, rows=2))
        queued = await anext(events)
        assert isinstance(queued, Queued)
        assert 2 <= queued.position <= 3
        assert queued.wait > 0
        network.open.set()
        await events.aclose()
        await asyncio.gather(*waiting)


async def test_a_higher_priority_goes_before_a_tenants_own():
    network, order = ToyNetwork(), []
    async with engine(max_batch_rows=2) as batcher:
        network.open.clear()
        running = await submitted(batcher, toy_job(network, 3, rows=2))
        await asyncio.to_thread(network.entered.wait)
        tasks = []
        for name, priority in (("low", -1), ("usual", 0), ("high", 5)):
            job = toy_job(network, 3, rows=2, priority=priority, id=name)
            tasks.append(await submitted(batcher, job))
        network.open.set()
        await asyncio.gather(running, *tasks)
        for forward in batcher.counters.trace:
            order += [job for job, step in forward.jobs if step == 0 and job not in order]
    assert order[1:] == ["high", "usual", "low"]


async def test_a_silent_engine_shows_that_it_is_alive():
    network = ToyNetwork()
    async with engine(alive_seconds=0.02) as batcher:
        network.open.clear()
        events = batcher.run(toy_job(network, 2))
        names = [type(await anext(events)).__name__ for _ in range(3)]
        network.open.set()
        *_, last = [event async for event in events]
    assert names == ["Queued", "Alive", "Alive"]
    assert torch.is_tensor(last.outputs["latents"])
