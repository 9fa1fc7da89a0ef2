"""A job that cannot be computed fails alone; memory that runs out makes batches smaller."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.events import Preview
from services.engine.stack import LATENT
from services.engine.stepper import Stepper
from tests.heldbatcher import HeldBatcher
from tests.services.engine.toys import (
    ToyNetwork,
    ToyPhase,
    ToySteps,
    engine,
    result,
    submitted,
    toy_job,
)


class Fragile(ToyNetwork):
    """Fails whatever shares its forward with a row that is marked."""

    def __call__(self, inputs, timesteps, conditioning):
        if (conditioning["embed"] > 100).any():
            raise RuntimeError("toy failure")
        return super().__call__(inputs, timesteps, conditioning)


@dataclass(eq=False)
class Marked(ToyPhase):
    """Makes `Fragile` fail."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.conditioning["embed"] *= 1000


def failing_at(step: int, error: Exception) -> Callable[[int], None]:
    def fail(at: int) -> None:
        if at == step:
            raise error

    return fail


@dataclass(eq=False)
class Blind(ToyPhase):
    """Cannot say what the network sees at the third step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.on_inputs = failing_at(2, IndexError("step_index is out of range"))


@dataclass(eq=False)
class Stuck(ToyPhase):
    """Cannot take its third step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.on_step = failing_at(2, TypeError("no such state"))


@dataclass(frozen=True)
class MisshapingSteps(ToySteps):
    """Makes the latent another shape at the second step."""

    def advance(self, stack, prediction, noise):
        state = super().advance(stack, prediction, noise)
        return {LATENT: state[LATENT].repeat(1, 1 + (stack.steps == [1]))}


@dataclass(eq=False)
class Misshapen(ToyPhase):
    """Changes its latent's shape, so that it no longer stacks with its group's."""

    stepper: Stepper = MisshapingSteps()


async def together(batcher: HeldBatcher, jobs: list) -> list:
    """Results or errors of jobs that begin in one step."""
    door = ToyNetwork()
    door.open.clear()
    first = await submitted(batcher, toy_job(door, 1, id="door"))
    await asyncio.to_thread(door.entered.wait)
    tasks = [await submitted(batcher, job) for job in jobs]
    door.open.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("kind", [Marked, Blind, Stuck, Misshapen])
async def test_the_guilty_one_alone_fails(kind) -> None:
    network = Fragile()
    recipes = [(6, 1), (9, 2), (4, 3)]
    async with engine() as batcher:
        alone = [await result(batcher, toy_job(network, n, seed)) for n, seed in recipes]
        honest = [toy_job(network, n, seed, id=f"honest {seed}") for n, seed in recipes]
        guilty = toy_job(network, 8, seed=9, kind=kind, id="guilty")
        first, failure, *others = await together(batcher, [honest[0], guilty, *honest[1:]])
    assert isinstance(failure, KandinskyError)
    assert failure.reason is Reason.INTERNAL
    assert failure.message == "the model failed on this request"
    for actual, expected in zip([first, *others], alone, strict=True):
        torch.testing.assert_close(actual, expected)
    assert all(job.stats.shared_forwards > 1 for job in honest)
    assert batcher.counters.failed == 1


class Small(ToyNetwork):
    """Has memory for so many rows."""

    def __init__(self, rows: int, error: Exception) -> None:
        super().__init__("small")
        self.rows, self.error = rows, error
        self.seen: list[int] = []

    def __call__(self, inputs, timesteps, conditioning):
        self.seen.append(len(inputs))
        if len(inputs) > self.rows:
            raise self.error
        return super().__call__(inputs, timesteps, conditioning)


OUT_OF_MEMORY = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "CPU": RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"),
    "host": MemoryError(),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY.keys())
async def test_a_batch_that_finds_no_memory_goes_in_halves_and_stays_small(error) -> None:
    usual, network = ToyNetwork(), Small(2, error)
    async with engine() as batcher:
        expected = [await result(batcher, toy_job(usual, 5, seed)) for seed in range(5)]
        jobs = [toy_job(network, 5, seed) for seed in range(5)]
        values = await together(batcher, jobs)
        for actual, each in zip(values, expected, strict=True):
            torch.testing.assert_close(actual, each)
        assert batcher.counters.failed == 0
        assert [rows for rows in network.seen if rows > 2] == [5, 3]
        assert batcher.counters.out_of_memory == 2
        del network.seen[:]
        await together(batcher, [toy_job(network, 4, seed) for seed in range(4)])
        assert max(network.seen) == 2, "it forgot what the memory holds"
        await together(batcher, [toy_job(usual, 4, seed) for seed in range(4)])
        assert batcher.counters.trace[-1].rows == 4, "another network pays for it"


async def test_a_job_that_alone_finds_no_memory_fails_and_says_so() -> None:
    network = Small(2, OUT_OF_MEMORY["CUDA"])
    async with engine() as batcher:
        large, small = toy_job(network, 3, rows=3, id="large"), toy_job(network, 3, id="small")
        failure, value = await together(batcher, [large, small])
    assert isinstance(failure, KandinskyError)
    assert failure.reason is Reason.INTERNAL
    assert "memory does not hold this request" in failure.message
    assert torch.is_tensor(value)


@dataclass(eq=False)
class Watched(ToyPhase):
    """Has no memory for a preview."""

    def preview(self):
        raise torch.OutOfMemoryError("CUDA out of memory")


async def test_a_preview_that_finds_no_memory_is_left_out() -> None:
    network = ToyNetwork()
    async with engine() as batcher:
        job = toy_job(network, 3, kind=Watched, preview_every=1)
        *events, last = [event async for event in batcher.run(job)]
    assert torch.is_tensor(last.outputs["latents"])
    assert not [event for event in events if isinstance(event, Preview)]
    assert batcher.counters.previews_left_out == 3


async def test_running_jobs_have_no_more_latent_area_than_the_limit() -> None:
    network = ToyNetwork()
    async with engine(max_batch_latent_area=8) as batcher:
        jobs = [toy_job(network, 4, seed, latent_area=3, id=f"{seed}") for seed in range(5)]
        await together(batcher, jobs)
        larger = [toy_job(network, 4, latent_area=9, id=f"large {k}") for k in range(2)]
        await together(batcher, larger)
    sizes = [[name for name, _ in forward.jobs] for forward in batcher.counters.trace]
    assert max(len(names) for names in sizes) == 2
    assert all(len(names) == 1 for names in sizes if "large 0" in names or "large 1" in names)
