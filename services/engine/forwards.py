"""A group's step through its network, taken so that a job that cannot be computed fails alone."""

import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from services.device.copies import to_device
from services.engine.counters import Counters, Forward
from services.engine.forward_sizes import ForwardSizes, is_out_of_memory
from services.engine.job import Job
from services.engine.phase import SplitNetwork
from services.engine.stack import Stack
from services.engine.stepper import Stepper

logger = logging.getLogger(__name__)

Fail = Callable[[Job, Exception], None]
"""Called with what went wrong with a job alone."""


class Forwards:
    """Runs the networks, for all groups of one engine.

    Args:
        counters: of the engine.
        clock: seconds.
    """

    def __init__(self, counters: Counters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self.sizes = ForwardSizes()

    def run(self, jobs: Sequence[Job], fail: Fail) -> Iterator[tuple[Stack, torch.Tensor]]:
        """The jobs of a group, stacked by stepper, with the network's output for each stack's rows.

        A forward that fails is taken again for each of its jobs alone; one that finds no memory, in
        halves. Nothing but the network's output is made here, so that the others go on unharmed.

        Args:
            jobs: can share a forward; their steps follow as the pairs are taken.
            fail: is called in place of a pair.
        """
        for part in self.sizes.parts(jobs):
            yield from self._run(part, fail)

    def _run(self, jobs: Sequence[Job], fail: Fail) -> Iterator[tuple[Stack, torch.Tensor]]:
        try:
            pairs = self._forward(jobs)
        except Exception as error:
            if len(jobs) == 1:
                fail(jobs[0], error)
                return
            parts = self._parted(jobs, error)
        else:
            yield from pairs
            return
        # By now the failed forward's tensors, which its error's frames held, are free.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for part in parts:
            yield from self._run(part, fail)

    def _parted(self, jobs: Sequence[Job], error: Exception) -> list[Sequence[Job]]:
        if is_out_of_memory(error):
            self._counters.out_of_memory += 1
            return self.sizes.halve(jobs)
        name = jobs[0].network.name
        logger.exception("a forward of %s with %d jobs failed: each goes alone", name, len(jobs))
        return [[job] for job in jobs]

    def _forward(self, jobs: Sequence[Job]) -> list[tuple[Stack, torch.Tensor]]:
        stacks = stacked(jobs)
        jobs = [job for stack in stacks for job in stack.members]
        counts = [sum(stack.counts) for stack in stacks]
        output = _pass(
            stacks,
            counts,
            _joined([stack.rows(stack.phases[0].stepper.inputs(stack)) for stack in stacks]),
            to_device(_timesteps(jobs), stacks[0].latent),
            _joined_by_name([stack.conditioning() for stack in stacks]),
        )
        outputs = (output,) if len(stacks) == 1 else output.split(counts)
        rows, now = sum(counts), self._clock()
        done = tuple((job.id, job.step) for job in jobs)
        name = jobs[0].network.name
        if jobs[0].is_shallow:
            name = f"{name}, shallow"
        self._counters.record_forward(Forward(name, rows, done))
        for job in jobs:
            job.record_forward(rows, len(jobs) > 1, now)
        return list(zip(stacks, outputs, strict=True))


def _pass(
    stacks: Sequence[Stack],
    counts: Sequence[int],
    inputs: torch.Tensor,
    timesteps: torch.Tensor,
    conditioning: dict[str, torch.Tensor],
) -> torch.Tensor:
    """The network's output; a shallow pass, or a whole one whose deep part is kept, where due."""
    jobs = [job for stack in stacks for job in stack.members]
    network = jobs[0].network
    keeping = [job for job in jobs if job.phase.keeps_deep]
    if not keeping:
        return network(inputs, timesteps, conditioning)
    if not isinstance(network, SplitNetwork):
        raise TypeError(f"{network.name} has no deep part to leave out")
    if jobs[0].is_shallow:
        deep = _joined([stack.deep() for stack in stacks])
        return network.shallow(inputs, timesteps, conditioning, deep)
    for job in keeping:
        job.keep_snapshot()
    output, deep = network.keeping(inputs, timesteps, conditioning)
    for stack, part in zip(stacks, deep.split(list(counts)), strict=True):
        stack.keep_deep(part)
    return output


def stacked(jobs: Sequence[Job]) -> list[Stack]:
    """The jobs in stacks, one for each stepper; the ones that they are in, while these go on."""
    by_stepper: dict[Stepper, list[Job]] = {}
    for job in jobs:
        by_stepper.setdefault(job.phase.stepper, []).append(job)
    return [_stack(members) for members in by_stepper.values()]


def _stack(jobs: list[Job]) -> Stack:
    before = jobs[0].stack
    if len(before.members) == len(jobs) and all(
        job.stack is before and job.phase is phase
        for job, phase in zip(jobs, before.phases, strict=True)
    ):
        return before
    stack = Stack(jobs, [job.state for job in jobs], [job.deep for job in jobs])
    for place, job in enumerate(jobs):
        job.join(stack, place)
    return stack


def _timesteps(jobs: Sequence[Job]) -> torch.Tensor:
    """Of each row."""
    each = [(job.phase.timesteps[job.step], job.phase.rows_at(job.step)) for job in jobs]
    return torch.tensor([step for step, count in each for _ in range(count)], dtype=torch.float32)


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _joined_by_name(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}
