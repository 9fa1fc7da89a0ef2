"""Passes of several jobs go in slices no longer than a step of the loops that run beside them."""

import asyncio
import itertools

import pytest

from services.engine.job import Job
from services.engine.slices import Slices
from services.engine.step_times import StepTimeEstimator
from tests.services.engine.toys import (
    Clock,
    ToyNetwork,
    ToyPhase,
    engine,
    result,
    submitted,
    toy_job,
)


class RowNetwork(ToyNetwork):
    """Takes so many seconds a row."""

    def __call__(self, inputs, timesteps, conditioning):
        self.clock.now += self.seconds * (len(inputs) - 1)
        return super().__call__(inputs, timesteps, conditioning)


@pytest.mark.parametrize(("seconds", "most"), [(0.5, 4), (0.9, 2), (5.0, 1), (0.1, 8)])
async def test_a_slice_takes_no_longer_than_a_step_of_the_loop(seconds: float, most: int) -> None:
    clock = Clock()
    loop = ToyNetwork("loop", clock, 2.0)
    decode = RowNetwork("decode", clock, seconds)

    def drawn(seed: int, steps: int):
        job = toy_job(loop, steps, seed, id=f"{seed}")
        job.phases[-1] = ToyPhase(decode, 1, name="decode")
        return job

    async with engine(clock) as batcher:
        await result(batcher, drawn(0, 3))  # measures both
        batcher.hold()
        tasks = [asyncio.create_task(result(batcher, drawn(seed, 5))) for seed in range(8)]
        tasks.append(asyncio.create_task(result(batcher, drawn(99, 40))))
        for seed in (*range(8), 99):
            await batcher.arrival(f"{seed}")
        batcher.counters.trace.clear()
        batcher.release()
        await asyncio.gather(*tasks)
    trace = list(batcher.counters.trace)
    together = [f for f in trace if f.network == "decode" and "99" not in dict(f.jobs)]
    assert sum(forward.rows for forward in together) == 8
    assert max(forward.rows for forward in together) == most
    places = [place for place, forward in enumerate(trace) if forward in together]
    if most < 8:
        between = {f.network for f in trace[places[0] : places[-1]]}
        assert "loop" in between, "the loop stood still until all were decoded"


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("seconds", [0.9, 1.9])
async def test_between_two_steps_of_a_loop_is_one_slice(seconds: float, rows: int) -> None:
    clock = Clock()
    loop, decode = ToyNetwork("loop", clock, 2.0), RowNetwork("decode", clock, seconds)

    def drawn(seed: int, steps: int):
        job = toy_job(loop, steps, seed, id=f"{seed}", rows=rows)
        job.phases[-1] = ToyPhase(decode, 1, name="decode")
        return job

    async with engine(clock) as batcher:
        await result(batcher, drawn(0, 3))
        batcher.hold()
        tasks = [await submitted(batcher, drawn(seed, 5)) for seed in range(8)]
        long = await submitted(batcher, drawn(99, 40))
        batcher.counters.trace.clear()
        batcher.release()
        await asyncio.gather(long, *tasks)
        steps = [forward.network for forward in batcher.counters.trace]
    assert ("decode", "decode") not in itertools.pairwise(steps[:-1])
    assert steps[5:10:2] == ["decode"] * 3, "the loops go before all passes"


def pass_of(network: ToyNetwork, name: str, **options) -> Job:
    return toy_job(network, 1, id=name, **options)


def test_what_was_never_measured_goes_alone() -> None:
    loop, decode = ToyNetwork("loop"), ToyNetwork("decode")
    jobs = [pass_of(decode, f"{k}") for k in range(3)]
    assert Slices(StepTimeEstimator()).cut(jobs, [*jobs, toy_job(loop, 9)]) == jobs[:1]


def test_a_group_with_a_loop_in_it_is_not_cut() -> None:
    network = ToyNetwork("both")
    jobs = [pass_of(network, "pass"), toy_job(network, 9), toy_job(network, 9)]
    assert Slices(StepTimeEstimator()).cut(jobs, jobs) == jobs


def test_those_that_take_turns_go_first_and_wait_for_no_loop_that_takes_none() -> None:
    step_times = StepTimeEstimator()
    low, high = pass_of(ToyNetwork("decode"), "low"), pass_of(ToyNetwork("decode"), "high")
    loop = toy_job(ToyNetwork("loop"), 9)
    step_times.record(loop.phase, 1, 1.0, is_warm=True)
    step_times.record(low.phase, 1, 0.9)
    slices = Slices(step_times)
    assert slices.cut([low, high], [high, loop]) == [high]
    assert slices.due([high, loop]) == [loop]
    assert slices.due([high]) == [high]
    assert slices.cut([loop], [high, loop]) == [loop]
    assert slices.due([high, loop]) == [high, loop]
    assert slices.cut([low, high], [high]) == [low, high]
    assert slices.due([high, loop]) == [high, loop]


async def test_alone_all_go_at_once() -> None:
    clock = Clock()
    loop, decode = ToyNetwork("loop", clock, 0.1), RowNetwork("decode", clock, 9.0)
    async with engine(clock) as batcher:
        for _ in range(2):
            jobs = [toy_job(loop, 3, seed, id=f"{seed}") for seed in range(6)]
            for job in jobs:
                job.phases[-1] = ToyPhase(decode, 1, name="decode")
            batcher.hold()
            tasks = [asyncio.create_task(result(batcher, job)) for job in jobs]
            for job in jobs:
                await batcher.arrival(job.id)
            batcher.release()
            await asyncio.gather(*tasks)
            batcher._came.clear()
    assert batcher.counters.trace[-1].rows == 6
