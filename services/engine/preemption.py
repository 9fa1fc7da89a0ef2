"""Which running jobs of a tenant make room for one of its own that waits, and go on later.

A job goes before those of lower priority, and before those that can wait where it would else miss
its deadline. A paused job keeps its state where it is: its image is the same.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.step_times import StepTimeEstimator

Ends = Mapping[Job, float]
"""The running jobs with the times at which they end by usual step times, the soonest first."""


class Preemption:
    """The rules; changes nothing by itself.

    Args:
        limits: of the engine.
        step_times: say what takes how long.
        clock: seconds.
    """

    def __init__(
        self, limits: EngineLimits, step_times: StepTimeEstimator, clock: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._step_times = step_times
        self._clock = clock

    def fits(self, jobs: Collection[Job]) -> bool:
        """Whether all of some jobs may run at once."""
        return (
            sum(job.rows for job in jobs) <= self._limits.rows
            and sum(job.latent_area for job in jobs) <= self._limits.latent_area
        )

    def next(
        self, waiting: Iterable[Job], running: Sequence[Job], admitted: Collection[Job] = ()
    ) -> tuple[Job, list[Job]] | None:
        """A waiting job that goes before running ones of its tenant, with those; None for nobody.

        Of a tenant's jobs the first one, or any that would else miss its deadline.

        Args:
            waiting: each tenant's in the order in which they would be admitted.
            running: the batch.
            admitted: those of it that have only just come; they stay.
        """
        ends = self._ends(running)
        priorities: dict[str, list[int]] = {}
        for job in running:
            priorities.setdefault(job.tenant, []).append(job.priority)
        first: set[str] = set()
        for job in waiting:
            is_first = job.tenant not in first
            first.add(job.tenant)
            outranks = is_first and job.priority > min(priorities.get(job.tenant, [job.priority]))
            if outranks or self._is_urgent(job, ends):
                victims = self._victims(job, ends, admitted)
                if victims:
                    return job, victims
        return None

    def victims(self, job: Job, running: Sequence[Job]) -> list[Job]:
        """The fewest running jobs that have to be paused for a job that waits; none where none may.

        Of lowest priority first, and of those the ones that came last.

        Args:
            job: that waits.
            running: the batch.
        """
        return self._victims(job, self._ends(running), ())

    def _victims(self, job: Job, ends: Ends, admitted: Collection[Job]) -> list[Job]:
        running = list(ends)
        if self._is_too_late(job):
            return []
        is_urgent = self._is_urgent(job, ends)
        yielding = [
            other
            for other in running
            if other.tenant == job.tenant
            and (other.priority < job.priority or (is_urgent and self._can_wait(other, job, ends)))
            and other not in admitted
        ]
        staying = [other for other in running if other not in yielding]
        if staying and not self.fits((*staying, job)):
            return []
        return self._fewest(
            sorted(yielding, key=lambda each: (each.priority, -each.admitted)), job, running
        )

    def _fewest(self, yielding: list[Job], job: Job, running: list[Job]) -> list[Job]:
        """The largest until one more is enough, and of those that are the first."""
        paused: list[Job] = []
        while running and not self.fits((*running, job)):
            enough = [
                other
                for other in yielding
                if self.fits([job, *(each for each in running if each is not other)])
            ]
            largest = max(yielding, key=lambda each: (each.latent_area, each.rows))
            chosen = enough[0] if enough else largest
            yielding.remove(chosen)
            running.remove(chosen)
            paused.append(chosen)
        return paused

    def _ends(self, running: Sequence[Job]) -> Ends:
        now = self._clock()
        ends = {job: now + self._step_times.usual(*job.left) for job in running if not job.ended}
        return dict(sorted(ends.items(), key=lambda item: item[1]))

    def _is_too_late(self, job: Job) -> bool:
        """Whether a job misses its deadline in any case."""
        return self._clock() + self._step_times.least(*job.left) > job.deadline

    def _is_urgent(self, job: Job, ends: Ends) -> bool:
        """Whether a job would miss its deadline if it waited for enough running ones to end."""
        if job.deadline == math.inf:
            return False
        latest = job.deadline - self._step_times.usual(*job.left)
        rows = self._limits.rows - sum(other.rows for other in ends)
        latent_area = self._limits.latent_area - sum(other.latent_area for other in ends)
        for other, end in ends.items():
            rows, latent_area = rows + other.rows, latent_area + other.latent_area
            if end > latest:
                return True
            if rows >= job.rows and latent_area >= job.latent_area:
                return False
        return False

    def _can_wait(self, other: Job, job: Job, ends: Ends) -> bool:
        """Whether a job keeps its deadline, which is no earlier, if it goes on after another."""
        end = ends[other] + self._step_times.usual(*job.left)
        return (
            other.priority == job.priority
            and job.deadline <= other.deadline
            and end <= other.deadline
        )


def leading(running: Sequence[Job]) -> list[Job]:
    """The jobs that no other of their tenant goes before: those of its highest priority."""
    highest: dict[str, int] = {}
    for job in running:
        highest[job.tenant] = max(job.priority, highest.get(job.tenant, job.priority))
    return [job for job in running if job.priority == highest[job.tenant]]
