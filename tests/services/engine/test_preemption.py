"""A job of higher priority, or one in a hurry, goes before others of its tenant, which go on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.batcher import Batcher
from services.engine.events import Event, Progress
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.snapshot import Snapshot
from tests.heldbatcher import HeldBatcher
from tests.services.engine.toys import (
    Clock,
    ToyNetwork,
    ToyPhase,
    engine,
    last_value,
    result,
    submitted,
    toy_job,
)

STEPS = 20
FULL = {"max_batch_rows": 4, "max_batch_latent_area": 4}


@dataclass(eq=False)
class Narrow(ToyPhase):
    """Ends as wide as every last phase is."""

    def result(self, latent: torch.Tensor) -> torch.Tensor:
        return latent[:, :4]


async def until(condition: Callable[[], object]) -> None:
    """Lets the engine's thread go on until it has come to something."""
    for _ in range(10**6):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def undisturbed(*recipes: tuple[int, int]) -> list[torch.Tensor]:
    """Results of jobs alone, by their steps and seeds."""
    network = ToyNetwork()
    async with engine() as batcher:
        return [await result(batcher, toy_job(network, *recipe)) for recipe in recipes]


async def full_of_low(
    batcher: HeldBatcher, network: ToyNetwork, **options
) -> list[asyncio.Task[torch.Tensor]]:
    """Four jobs of priority 0 that run and fill the batch, held before their second step."""
    batcher.hold()
    tasks = [
        asyncio.create_task(
            result(batcher, toy_job(network, STEPS, seed, id=f"low {seed}", **options))
        )
        for seed in range(4)
    ]
    for seed in range(4):
        await batcher.arrival(f"low {seed}")
    await batcher.held_at("low 3", 1)
    return tasks


def steps_of(batcher: HeldBatcher, name: str) -> int:
    """Engine steps from a job's first one to its last."""
    ids = [[job for job, _ in forward.jobs] for forward in batcher.counters.trace]
    own = [place for place, names in enumerate(ids) if name in names]
    return own[-1] - own[0] + 1


@pytest.mark.parametrize("width", [4, 5], ids=["of their group", "of another group"])
async def test_a_high_priority_takes_hardly_more_steps_than_on_an_idle_engine(width: int) -> None:
    expected = await undisturbed(*((STEPS, seed) for seed in range(4)))
    network = ToyNetwork()
    async with engine(**FULL) as batcher:
        await result(batcher, toy_job(network, STEPS, width=4, id="idle"))
        idle = steps_of(batcher, "idle")
        low = await full_of_low(batcher, network)
        arrived = batcher.counters.forwards
        high = await submitted(
            batcher, toy_job(network, STEPS, 9, priority=1, id="high", width=width, kind=Narrow)
        )
        batcher.release()
        await high
        begun = [f for f in list(batcher.counters.trace)[arrived:] if ("high", 0) in f.jobs]
        before = list(batcher.counters.trace).index(begun[0]) - arrived
        for task, value in zip(low, expected, strict=True):
            torch.testing.assert_close(await task, value, rtol=0, atol=0)
    assert before <= 1, "it was not let in after the step under way"
    assert steps_of(batcher, "high") <= 1.3 * idle
    assert batcher.counters.preempted == 1, "more made room than had to"


async def test_nobody_of_another_tenant_or_of_as_high_a_priority_makes_room() -> None:
    for other in ({"tenant": "other"}, {"priority": 1}, {"priority": 2}):
        network = ToyNetwork()
        async with engine(**FULL) as batcher:
            low = await full_of_low(batcher, network, **other)
            high = await submitted(batcher, toy_job(network, STEPS, 9, priority=1, id="high"))
            batcher.release()
            await asyncio.gather(high, *low)
            assert batcher.counters.preempted == 0


async def test_the_lowest_makes_room_and_of_those_the_last() -> None:
    network = ToyNetwork()
    async with engine(**FULL) as batcher:
        batcher.hold()
        tasks = [
            await submitted(
                batcher, toy_job(network, STEPS, seed, priority=priority, id=f"{priority} {seed}")
            )
            for seed, priority in enumerate((1, 0, 0, 2))
        ]
        await batcher.held_at("0 2", 1)
        tasks.append(await submitted(batcher, toy_job(network, 5, 9, priority=3, id="high")))
        batcher.release()
        await asyncio.gather(*tasks)
        beside = {
            job for f in batcher.counters.trace if "high" in dict(f.jobs) for job, _ in f.jobs
        }
    assert beside == {"high", "1 0", "0 1", "2 3"}


@pytest.mark.parametrize("priority", [0, 1])
async def test_a_job_in_a_hurry_goes_before_those_that_can_wait(priority: int) -> None:
    """But before none of higher priority."""
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock, **FULL) as batcher:
        await result(batcher, toy_job(network, STEPS))  # measures a step
        low = await full_of_low(batcher, network, priority=priority)
        late = toy_job(network, STEPS, 9, deadline=clock.now + STEPS + 4, id="late")
        hurried = await submitted(batcher, late)
        batcher.release()
        outcome, *_ = await asyncio.gather(hurried, *low, return_exceptions=True)
        assert batcher.counters.preempted == (priority == 0)
        assert isinstance(outcome, KandinskyError) == (priority == 1)


async def test_no_more_make_room_than_have_to() -> None:
    network = ToyNetwork()
    async with engine(max_batch_rows=5, max_batch_latent_area=5) as batcher:
        batcher.hold()
        tasks = [
            await submitted(batcher, toy_job(network, STEPS, rows, rows=rows, id=f"{rows} rows"))
            for rows in (3, 2)  # the last that came goes first, but cannot make room alone
        ]
        await batcher.held_at("2 rows", 1)
        high = toy_job(network, 5, 9, priority=1, rows=3, id="high")
        tasks.append(await submitted(batcher, high))
        batcher.release()
        await asyncio.gather(*tasks)
        beside = {
            job for f in batcher.counters.trace if "high" in dict(f.jobs) for job, _ in f.jobs
        }
        assert batcher.counters.preempted == 1
    assert beside == {"high", "2 rows"}


async def test_a_paused_job_goes_on_before_those_that_wait() -> None:
    network = ToyNetwork()
    async with engine(**FULL) as batcher:
        low, high = await with_one_paused(batcher, network)
        later = await submitted(batcher, toy_job(network, 5, 7, id="later"))
        high.cancel()
        await batcher.departure("high")
        batcher.release()
        await asyncio.gather(*low, later)
        trace = list(batcher.counters.trace)
    again = next(i for i, f in enumerate(trace) if dict(f.jobs).get("low 3", 0) == 2)
    assert again < next(i for i, f in enumerate(trace) if "later" in dict(f.jobs))


async def test_a_large_paused_job_is_not_overtaken_by_small_ones_that_wait() -> None:
    network = ToyNetwork()
    async with engine(**FULL) as batcher:
        batcher.hold()
        tasks = [await submitted(batcher, toy_job(network, STEPS, rows=4, id="large"))]
        await batcher.held_at("large", 1)
        for steps in (3, 6):
            high = toy_job(network, steps, steps, priority=1, id=f"high {steps}")
            tasks.append(await submitted(batcher, high))
        small = [toy_job(network, 5 + k, k, id=f"small {k}") for k in range(12)]
        tasks += [await submitted(batcher, each) for each in small]
        batcher.release()
        await asyncio.gather(*tasks)
        trace = [dict(forward.jobs) for forward in batcher.counters.trace]
    begun = min(place for place, jobs in enumerate(trace) if any("small" in job for job in jobs))
    ended = max(place for place, jobs in enumerate(trace) if "large" in jobs)
    assert begun == ended + 1


async def test_the_time_left_leaves_out_pauses() -> None:
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock, max_batch_rows=2) as batcher:
        batcher.waits_for_readers = True
        batcher.hold()
        low = toy_job(network, 10, rows=2, id="low", progress_every=1)
        reading = asyncio.create_task(progress_of(batcher.run(low)))
        await batcher.held_at("low", 4)
        high = await submitted(batcher, toy_job(network, 50, 9, rows=2, priority=1, id="high"))
        batcher.release()
        await high
        left = [event.remaining for event in await reading]
    assert batcher.counters.preempted == 1
    assert left[:10] == [10.0 - step for step in range(10)]


async def progress_of(events: AsyncIterator[Event]) -> list[Progress]:
    return [event async for event in events if isinstance(event, Progress)]


async def test_a_job_with_time_to_wait_waits() -> None:
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock, **FULL) as batcher:
        await result(batcher, toy_job(network, STEPS))
        low = await full_of_low(batcher, network)
        patient = toy_job(network, STEPS, 9, deadline=clock.now + 4 * STEPS, id="patient")
        waiting = await submitted(batcher, patient)
        batcher.release()
        await asyncio.gather(waiting, *low)
        assert batcher.counters.preempted == 0


async def with_one_paused(batcher: HeldBatcher, network: ToyNetwork) -> tuple[list, asyncio.Task]:
    low = await full_of_low(batcher, network)
    high = await submitted(batcher, toy_job(network, 400, 9, priority=1, id="high"))
    await batcher.held_at("high", 2)
    assert batcher.counters.preempted == 1
    return low, high


async def test_a_paused_job_that_nobody_waits_for_any_more_leaves() -> None:
    network = ToyNetwork()
    async with engine(**FULL) as batcher:
        low, high = await with_one_paused(batcher, network)
        low[3].cancel()  # the last that came is the one that was paused
        await batcher.departure("low 3")
        batcher.release()
        await until(lambda: batcher.counters.abandoned)
        assert not high.done()
        high.cancel()
        await asyncio.gather(*low[:3])


async def test_a_paused_job_is_handed_on_when_the_engine_drains() -> None:
    expected = (await undisturbed((STEPS, 3)))[0]
    network, events = ToyNetwork(), []

    async def read(job: Job, batcher: Batcher) -> None:
        async for event in batcher.run(job):
            events.append(event)

    async with engine(**FULL) as batcher:
        batcher.hold()
        low = [
            asyncio.create_task(read(toy_job(network, STEPS, seed, id=f"low {seed}"), batcher))
            for seed in (0, 1, 2)
        ]
        last = toy_job(network, STEPS, 3, id="last")
        low.append(asyncio.create_task(read(last, batcher)))
        await batcher.held_at("last", 4)
        high = asyncio.create_task(read(toy_job(network, 400, 9, priority=1, id="high"), batcher))
        await batcher.arrival("high")
        await batcher.held_at("high", 2)
        assert batcher.counters.preempted == 1
        events.clear()
        batcher.drain()
        batcher.release()
        failures = await asyncio.gather(*low, high, return_exceptions=True)
    assert all(
        isinstance(one, KandinskyError) and one.reason is Reason.DRAINING for one in failures
    )
    assert last.step == 5
    handed_on = [
        event for event in events if isinstance(event, Snapshot) and event.step == last.step
    ]
    async with engine() as other:
        again = toy_job(network, STEPS, 3, id="again")
        again.resume_from = handed_on[0]
        torch.testing.assert_close(await result(other, again), expected, rtol=0, atol=0)


arrivals = st.lists(
    st.tuples(
        st.integers(1, 9),  # steps
        st.integers(0, 2),  # priority
        st.sampled_from(["a", "b"]),
        st.integers(1, 3),  # rows
        st.integers(0, 5),  # engine steps before it comes
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(arrivals)
def test_whoever_comes_when_every_job_ends_as_if_it_were_alone(
    coming: list[tuple[int, int, str, int, int]],
) -> None:
    async def run() -> None:
        network = ToyNetwork()
        batcher = Batcher(EngineLimits(max_batch_rows=4, max_batch_latent_area=4), nice=0)
        try:
            tasks = []
            for seed, (steps, priority, tenant, rows, pause) in enumerate(coming):
                begun = batcher.counters.forwards
                for _ in range(200):
                    if batcher.counters.forwards >= begun + pause or not batcher.running:
                        break
                    await asyncio.sleep(0)
                job = toy_job(
                    network, steps, seed, priority=priority, tenant=tenant, rows=rows, id=str(seed)
                )
                tasks.append(asyncio.create_task(last_value(batcher.run(job))))
            values = await asyncio.wait_for(asyncio.gather(*tasks), 60)
            assert max(forward.rows for forward in batcher.counters.trace) <= 4
            alone = Batcher(EngineLimits(), nice=0)
            try:
                for seed, (steps, _, _, rows, _) in enumerate(coming):
                    expected = await result(alone, toy_job(network, steps, seed, rows=rows))
                    torch.testing.assert_close(values[seed], expected, rtol=0, atol=0)
            finally:
                await asyncio.to_thread(alone.close)
        finally:
            await asyncio.to_thread(batcher.close)

    asyncio.run(run())
