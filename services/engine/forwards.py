"""A group's forward pass, taken so that a job that cannot be computed fails alone."""

import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from services.engine.counters import Counters, Forward
from services.engine.forward_sizes import ForwardSizes, is_out_of_memory
from services.engine.job import Job
from services.engine.phase import Phase

logger = logging.getLogger(__name__)


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
        self._stacked: dict[Phase, tuple[list[Phase], dict[str, torch.Tensor]]] = {}

    def run(
        self, jobs: Sequence[Job], fail: Callable[[Job, Exception], None]
    ) -> Iterator[tuple[Job, torch.Tensor]]:
        """Each job of a group with the network's output for its rows, [rows, ...].

        A forward that fails is taken again for each of its jobs alone; one that finds no memory, in
        halves. Nothing but the network's output is made here, so that the others go on unharmed.

        Args:
            jobs: can share a forward; their steps follow as the pairs are taken.
            fail: is called in place of a pair, with what went wrong with the job alone.
        """
        for part in self.sizes.parts(jobs):
            yield from self._run(part, fail)

    def keep(self, jobs: Sequence[Job]) -> None:
        """Forgets what was stacked for others than these jobs."""
        phases = {job.phase for job in jobs}
        self._stacked = {key: kept for key, kept in self._stacked.items() if key in phases}

    def _run(
        self, jobs: Sequence[Job], fail: Callable[[Job, Exception], None]
    ) -> Iterator[tuple[Job, torch.Tensor]]:
        try:
            outputs = self._forward(jobs)
        except Exception as error:
            if len(jobs) == 1:
                fail(jobs[0], error)
                return
            parts = self._parted(jobs, error)
        else:
            yield from zip(jobs, outputs, strict=True)
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
        name = jobs[0].phase.network.name
        logger.exception("a forward of %s with %d jobs failed: each goes alone", name, len(jobs))
        return [[job] for job in jobs]

    def _forward(self, jobs: Sequence[Job]) -> tuple[torch.Tensor, ...]:
        network = jobs[0].phase.network
        counts = [job.phase.rows for job in jobs]
        pairs = list(zip(jobs, counts, strict=True))
        output = network(
            torch.cat([_repeat(job.inputs(), count) for job, count in pairs]),
            torch.stack([job.timestep for job, count in pairs for _ in range(count)]),
            self._conditioning(jobs),
        )
        outputs: tuple[torch.Tensor, ...] = output.split(counts)
        rows, now = sum(counts), self._clock()
        done = tuple((job.id, job.step) for job in jobs)
        self._counters.record_forward(Forward(network.name, rows, done))
        for job in jobs:
            job.record_forward(rows, len(jobs) > 1, now)
        return outputs

    def _conditioning(self, jobs: Sequence[Job]) -> dict[str, torch.Tensor]:
        """The jobs' conditioning stacked row under row; kept while the same jobs go on."""
        phases = [job.phase for job in jobs]
        before, stacked = self._stacked.get(phases[0], ([], {}))
        if len(phases) != len(before) or any(
            a is not b for a, b in zip(phases, before, strict=True)
        ):
            stacked = {
                name: torch.cat([phase.conditioning[name] for phase in phases])
                for name in phases[0].conditioning
            }
            self._stacked[phases[0]] = phases, stacked
        return stacked


def _repeat(row: torch.Tensor, count: int) -> torch.Tensor:
    return row.expand(count, *row.shape[1:])
