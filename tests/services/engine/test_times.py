"""Deadlines, times left and times to come back, on a clock that forwards alone move on."""

import asyncio

import pytest

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.counters import Leave
from services.engine.events import Progress, Queued
from services.engine.snapshot import Snapshot
from tests.services.engine.toys import Clock, ToyNetwork, engine, result, submitted, toy_job

COST = 11
"""Of a job of ten steps and the last phase's one: seconds, where each takes one."""


async def test_a_deadline_is_seen_after_the_step_in_which_it_passes():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock) as batcher:
        job = toy_job(network, 100, deadline=2.5, id="late")
        with pytest.raises(KandinskyError) as error:
            await result(batcher, job)
    assert error.value.reason is Reason.DEADLINE_EXCEEDED
    assert job.stats.forwards == 3
    assert list(batcher.counters.leaves) == [Leave("late", 1, 0.5)]


async def test_a_deadline_between_two_steps_lets_no_further_one_begin():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock) as batcher:
        job = toy_job(network, 100, deadline=4.0, id="on time")
        with pytest.raises(KandinskyError):
            await result(batcher, job)
    assert job.stats.forwards == 4
    assert list(batcher.counters.leaves) == [Leave("on time", 1, 0.0)]


async def test_a_step_that_ended_before_the_deadline_is_not_counted_as_late():
    clock = Clock()

    def tarry(step: int) -> None:
        clock.now += 0.75

    async with engine(clock) as batcher:
        network = ToyNetwork(clock=clock)
        job = toy_job(network, 100, deadline=3.0, id="slow", on_step=tarry)
        with pytest.raises(KandinskyError):
            await result(batcher, job)
    assert list(batcher.counters.leaves) == [Leave("slow", 0, 0.5)]


def test_every_late_step_is_counted():
    job = toy_job(ToyNetwork(), 100, deadline=2.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        job.record_forward(rows=1, shared=False, now=now)
    assert (job.stats.forwards, job.late_steps) == (4, 3)


async def test_a_deadline_ends_a_job_that_waits_as_well():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock, max_batch_rows=2) as batcher:
        network.open.clear()
        running, waiting = [
            toy_job(network, 10, rows=2, deadline=2.5, id=name) for name in ("running", "waiting")
        ]
        tasks = [await submitted(batcher, job) for job in (running, waiting)]
        network.open.set()
        for task in tasks:
            with pytest.raises(KandinskyError) as error:
                await task
            assert error.value.reason is Reason.DEADLINE_EXCEEDED
    assert batcher.counters.expired == 2
    assert (running.stats.forwards, waiting.stats.forwards) == (3, 0)


async def test_a_step_under_way_when_the_caller_goes_is_counted():
    network = ToyNetwork()
    async with engine() as batcher:
        network.open.clear()
        task = await submitted(batcher, toy_job(network, 100, id="gone"))
        await asyncio.to_thread(network.entered.wait)
        task.cancel()
        await batcher.departure("gone")
        network.open.set()
        await result(batcher, toy_job(network, 3))
    [leave] = batcher.counters.leaves
    assert (leave.job, leave.steps) == ("gone", 1)


async def test_the_time_left_is_that_of_the_steps_left():
    clock = Clock()
    network = ToyNetwork(clock=clock, seconds=2.0)
    async with engine(clock) as batcher:
        batcher.waits_for_readers = True
        job = toy_job(network, 4, progress_every=1)
        events = [event async for event in batcher.run(job)]
    left = [event.remaining for event in events if isinstance(event, Progress)]
    assert left == [8.0, 6.0, 4.0, 2.0, 0.0]


async def waits_and_refusal(max_queue: int) -> tuple[list[float | None], KandinskyError]:
    """What each of a queue's jobs is given when it comes, and the answer to one too many."""
    clock, waits = Clock(), []
    network = ToyNetwork(clock=clock)
    async with engine(clock, max_batch_latent_area=1, max_queue=max_queue) as batcher:
        await result(batcher, toy_job(network, 10))
        network.open.clear()
        network.entered.clear()
        streams = [batcher.run(toy_job(network, 10)) for _ in range(max_queue + 1)]
        for stream in streams:
            queued = await anext(stream)
            assert isinstance(queued, Queued)
            waits.append(queued.wait)
            await asyncio.to_thread(network.entered.wait)
        with pytest.raises(KandinskyError) as refusal:
            await result(batcher, toy_job(network, 10))
        for stream in streams:
            await stream.aclose()
        network.open.set()
    return waits[1:], refusal.value


@pytest.mark.parametrize("max_queue", [2, 4])
async def test_a_wait_is_the_work_ahead_and_a_full_queue_names_half_of_its_own(max_queue):
    waits, refusal = await waits_and_refusal(max_queue)
    assert waits == pytest.approx([COST * ahead for ahead in range(max_queue)])
    assert refusal.reason is Reason.OVERLOADED
    assert refusal.retry_after == pytest.approx(max_queue * COST / 2)


async def test_a_deadline_that_the_queue_does_not_leave_time_for_is_given_the_wait():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock, max_batch_latent_area=1) as batcher:
        await result(batcher, toy_job(network, 10))
        network.open.clear()
        network.entered.clear()
        # Whose own deadline leaves no time to make room for another.
        running = await submitted(batcher, toy_job(network, 10, deadline=clock.now + 15))
        await asyncio.to_thread(network.entered.wait)
        waiting = [await submitted(batcher, toy_job(network, 10)) for _ in range(3)]
        with pytest.raises(KandinskyError) as refusal:
            await result(batcher, toy_job(network, 10, deadline=clock.now + 20))
        network.open.set()
        await asyncio.gather(running, *waiting)
    assert refusal.value.reason is Reason.OVERLOADED
    assert refusal.value.retry_after == pytest.approx(3 * COST)


async def test_who_is_sent_away_learns_when_to_come_back():
    network = ToyNetwork()
    async with engine() as batcher:
        network.open.clear()
        running = await submitted(batcher, toy_job(network, 100))
        batcher.drain()
        network.open.set()
        for sent_away in (running, result(batcher, toy_job(network, 3))):
            with pytest.raises(KandinskyError) as error:
                await sent_away
            assert error.value.reason is Reason.DRAINING
            assert error.value.retry_after > 0


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({}, [10, 20, 30]),
        ({"snapshot_every": 1}, list(range(1, 31))),
        ({"snapshot_every": 3}, list(range(3, 31, 3))),
    ],
    ids=str,
)
async def test_snapshots_come_every_few_steps_as_configured(limits, steps):
    network = ToyNetwork()
    async with engine(**limits) as batcher:
        batcher.waits_for_readers = True
        events = [event async for event in batcher.run(toy_job(network, 31))]
    assert [event.step for event in events if isinstance(event, Snapshot)] == steps
