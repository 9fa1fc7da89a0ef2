"""The engine on a toy network: rows share forwards, and a job's result depends on it alone."""

import asyncio
import itertools
import time

import pytest
import torch

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.batcher import Batcher
from services.engine.events import Progress
from services.engine.job import Job
from tests.services.engine.toys import ToyNetwork, ToyPhase, engine, result, submitted, toy_job


def shared_with(batcher: Batcher, job: Job) -> set[str]:
    """Ids of the jobs that had rows in a forward with this one's."""
    forwards = [dict(forward.jobs) for forward in batcher.counters.trace]
    return {other for jobs in forwards if job.id in jobs for other in jobs} - {job.id}


async def test_rows_of_unequal_jobs_share_forwards_and_change_nothing():
    network = ToyNetwork()
    async with engine() as batcher:
        recipes = [(5, 0, 1), (9, 1, 2), (3, 2, 1), (12, 3, 2)]
        alone = [await result(batcher, toy_job(network, n, s, rows=r)) for n, s, r in recipes]
        network.open.clear()
        jobs = [toy_job(network, n, s, rows=r) for n, s, r in recipes]
        tasks = [await submitted(batcher, job) for job in jobs]
        network.open.set()
        together = await asyncio.gather(*tasks)
    for job in jobs:
        assert shared_with(batcher, job)
        assert job.stats.shared_forwards > 0
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other)
    different = toy_job(network, 5, seed=99)
    async with engine() as batcher:
        assert (await result(batcher, different) - alone[0]).abs().mean() > 0.1


async def test_a_job_joins_between_the_steps_of_another():
    network = ToyNetwork()
    async with engine() as batcher:
        late = toy_job(network, 4, seed=2, id="late")
        alone = await result(batcher, toy_job(network, 4, seed=2))
        reached, loop = asyncio.Event(), asyncio.get_running_loop()

        def hold_at_third_step(step: int) -> None:
            if step == 2:
                network.open.clear()
                loop.call_soon_threadsafe(reached.set)

        early = toy_job(network, 8, seed=1, id="early", on_step=hold_at_third_step)
        first = asyncio.create_task(result(batcher, early))
        await reached.wait()
        second = await submitted(batcher, late)
        network.open.set()
        await first
        torch.testing.assert_close(await second, alone)
    joined = [dict(f.jobs) for f in batcher.counters.trace if len(f.jobs) == 2]
    assert joined[0]["late"] == 0
    assert 0 < joined[0]["early"] < 8


async def test_a_neighbour_that_is_cancelled_changes_nothing_and_leaves_within_one_step():
    network = ToyNetwork()
    async with engine() as batcher:
        alone = await result(batcher, toy_job(network, 10, seed=1))
        reached, loop = asyncio.Event(), asyncio.get_running_loop()
        at_cancel: list[int] = []

        def tell(step: int) -> None:
            if step == 3:
                network.open.clear()
                loop.call_soon_threadsafe(reached.set)

        neighbour = toy_job(network, 1000, id="neighbour", on_step=tell)
        kept = toy_job(network, 10, seed=1, id="kept")
        network.open.clear()
        doomed = await submitted(batcher, neighbour)
        survivor = await submitted(batcher, kept)
        network.open.set()
        await reached.wait()
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        at_cancel.append(neighbour.stats.forwards)
        network.open.set()
        torch.testing.assert_close(await survivor, alone)
    assert "neighbour" in shared_with(batcher, kept)
    assert neighbour.stats.forwards <= at_cancel[0] + 1
    assert batcher.counters.abandoned == 1


async def test_jobs_of_different_networks_take_turns():
    first, second = ToyNetwork("first"), ToyNetwork("second")
    async with engine() as batcher:
        first.open.clear()
        tasks = [await submitted(batcher, toy_job(network, 20)) for network in (first, second)]
        first.open.set()
        await asyncio.gather(*tasks)
    names = [forward.network for forward in batcher.counters.trace]
    middle = names[2:38]
    assert all(a != b for a, b in itertools.pairwise(middle))
    assert batcher.counters.shared_forwards == 0


async def test_the_row_limit_holds_and_nothing_is_lost():
    network = ToyNetwork()
    async with engine(max_batch_rows=4) as batcher:
        jobs = [toy_job(network, 3 + i, seed=i, rows=2) for i in range(9)]
        values = await asyncio.gather(*(result(batcher, job) for job in jobs))
    assert len(values) == 9
    assert max(forward.rows for forward in batcher.counters.trace) == 4
    assert batcher.counters.finished == 9


async def test_a_full_queue_refuses_at_once_with_a_time_to_come_back():
    network = ToyNetwork()
    async with engine(max_batch_rows=2, max_queue=2) as batcher:
        network.open.clear()
        tasks = [await submitted(batcher, toy_job(network, 3, rows=2))]
        await asyncio.to_thread(network.entered.wait)
        tasks += [await submitted(batcher, toy_job(network, 3, rows=2)) for _ in range(2)]
        with pytest.raises(KandinskyError) as refusal:
            await result(batcher, toy_job(network, 3))
        network.open.set()
        await asyncio.gather(*tasks)
    assert refusal.value.reason is Reason.OVERLOADED
    assert refusal.value.retry_after > 0


async def test_a_deadline_that_cannot_be_kept_is_refused_before_any_step():
    network = ToyNetwork()
    async with engine() as batcher:
        batcher.step_times.record(ToyPhase(network, 1), rows=1, seconds=1.0, is_warm=True)
        with pytest.raises(KandinskyError) as error:
            await result(batcher, toy_job(network, 100, deadline=time.monotonic() + 50))
        assert error.value.reason is Reason.DEADLINE_EXCEEDED
        with pytest.raises(KandinskyError) as error:
            await result(batcher, toy_job(network, 5, deadline=time.monotonic() - 1))
        assert error.value.reason is Reason.DEADLINE_EXCEEDED
        assert (batcher.counters.refused, batcher.counters.forwards) == (2, 0)


async def test_a_failing_forward_fails_its_jobs_and_the_engine_goes_on(caplog):
    network, healthy = ToyNetwork(), ToyNetwork()
    network.fails = True
    async with engine() as batcher:
        with pytest.raises(KandinskyError) as error:
            await result(batcher, toy_job(network, 5))
        assert error.value.reason is Reason.INTERNAL
        assert "toy failure" not in error.value.message
        await result(batcher, toy_job(healthy, 5))


async def test_closing_fails_what_is_left():
    network = ToyNetwork()
    async with engine() as batcher:
        network.open.clear()
        running = await submitted(batcher, toy_job(network, 100_000))
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        network.open.set()
        with pytest.raises(KandinskyError) as error:
            await running
        await closing
        assert error.value.reason is Reason.DRAINING


async def test_progress_ends_every_phase_and_counts_down():
    network = ToyNetwork()
    async with engine() as batcher:
        events = [event async for event in batcher.run(toy_job(network, 50))]
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-2].step == progress[-2].steps == 50
    assert progress[-1].steps == 1
    assert progress[-1].remaining == 0
    assert all(event.remaining >= 0 for event in progress)
