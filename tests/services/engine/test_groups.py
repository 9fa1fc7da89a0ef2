"""Which jobs share a forward, what a step computes once, and what a job ends with."""

import inspect
from dataclasses import dataclass, field

import torch

from services.engine.batcher import Batcher
from services.engine.events import Finished, Preview
from services.engine.group import GroupKey
from services.engine.phase import Phase
from services.engine.stepper import Stepper
from tests.services.engine.toys import (
    ToyNetwork,
    ToyPhase,
    ToySteps,
    engine,
    result,
    submitted,
    toy_job,
)

NETWORK = ToyNetwork()


def key(phase: Phase) -> GroupKey:
    return GroupKey.of(phase, 0, phase.begin(None, torch.Generator()))


def test_equal_layouts_of_one_network_share() -> None:
    assert key(ToyPhase(NETWORK, 3, rows=2)) == key(ToyPhase(NETWORK, 9, rows=1))
    assert len({key(ToyPhase(NETWORK, 3)), key(ToyPhase(NETWORK, 4))}) == 1


def test_another_network_width_or_adapter_does_not_share() -> None:
    adapted = ToyPhase(NETWORK, 3)
    adapted.adapters = ("style",)
    phases = [ToyPhase(NETWORK, 3), ToyPhase(ToyNetwork(), 3), ToyPhase(NETWORK, 3, width=5)]
    assert len({key(phase) for phase in (*phases, adapted)}) == 4


@dataclass(frozen=True)
class CountingSteps(ToySteps):
    """Counts predictions, and shows that a preview is made of the one that is advanced."""

    def predict(self, stack, output):
        prediction = super().predict(stack, output)
        stack.phases[0].seen.append(("predict", id(prediction)))
        stack.phases[0].kept = prediction
        return prediction

    def preview(self, stack, prediction, places):
        stack.phases[0].seen.append(("preview", id(prediction)))
        return [torch.zeros(1, 1, 3, dtype=torch.uint8)]

    def advance(self, stack, prediction, noise):
        stack.phases[0].seen.append(("advance", id(prediction)))
        return super().advance(stack, prediction, noise)


@dataclass(eq=False)
class Counting(ToyPhase):
    """What its steps saw."""

    stepper: Stepper = CountingSteps()
    seen: list[tuple[str, int]] = field(default_factory=list)


async def test_a_step_predicts_once_for_its_preview_and_its_advance() -> None:
    async with engine() as batcher:
        job = toy_job(ToyNetwork(), 3, kind=Counting, preview_every=1)
        batcher.waits_for_readers = True
        events = [event async for event in batcher.run(job)]
    assert sum(isinstance(event, Preview) for event in events) == 3
    seen = job.phases[0].seen
    assert [name for name, _ in seen] == ["predict", "preview", "advance"] * 3
    for step in range(3):
        assert len({value for _, value in seen[3 * step : 3 * step + 3]}) == 1


@dataclass(eq=False)
class Judged(ToyPhase):
    """Ends with more than its latent."""

    def outputs(self, value):
        return {"image": value, "is_safe": (value > -100).all()[None]}


async def test_a_job_ends_with_named_outputs() -> None:
    async with engine() as batcher:
        job = toy_job(ToyNetwork(), 2)
        job.phases[-1] = Judged(job.phases[-1].network, 1)
        *_, last = [event async for event in batcher.run(job)]
    assert isinstance(last, Finished)
    assert set(last.outputs) == {"image", "is_safe"}
    assert last.outputs["is_safe"].tolist() == [True]


async def test_jobs_with_unlike_adapters_take_separate_steps() -> None:
    network = ToyNetwork()
    async with engine() as batcher:
        network.open.clear()
        jobs = [toy_job(network, 5, id=name) for name in ("plain", "adapted")]
        for phase in jobs[1].phases:
            phase.adapters = ("style",)
        tasks = [await submitted(batcher, job) for job in jobs]
        network.open.set()
        for task in tasks:
            await task
        assert batcher.counters.shared_forwards == 0
        alike = [toy_job(network, 5, id=f"{k}") for k in range(2)]
        network.open.clear()
        tasks = [await submitted(batcher, job) for job in alike]
        network.open.set()
        for task in tasks:
            await task
        assert batcher.counters.shared_forwards > 0
        await result(batcher, toy_job(network, 1))


def test_the_step_is_under_a_dozen_lines() -> None:
    lines = inspect.getsource(Batcher._step).splitlines()
    assert len(lines) < 12
    assert [word for word in ("_select", "_forwards", "_advance") if word in "".join(lines)] == [
        *("_select", "_forwards", "_advance")
    ]
