"""Which running jobs of a tenant make room for one of its own that waits, and go on later.

A job goes before those of lower priority, and before those that can wait where it would else miss
its deadline. A paused job keeps its state where it is: its image is the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.step_times import StepTimeEstimator


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

    def fits(self, jobs: Iterable[Job]) -> bool:
        """Whether all of some jobs may run at once."""
        jobs = list(jobs)
        return (
            sum(job.rows for job in jobs) <= self._limits.rows
            and sum(job.latent_area for job in jobs) <= self._limits.latent_area
        )

    def candidates(self, waiting: Iterable[Job], running: Sequence[Job]) -> Iterator[Job]:
        """The waiting jobs that may go before running ones of their tenant.

        Args:
            waiting: in the order in which they would be admitted.
            running: the batch.
        """
        lowest: dict[str, int] = {}
        for job in running:
            lowest[job.tenant] = min(job.priority, lowest.get(job.tenant, job.priority))
        room = self._room(running)
        for job in waiting:
            if job.tenant in lowest and (
                job.priority > lowest[job.tenant] or self._is_urgent(job, room)
            ):
                yield job

    def victims(self, job: Job, running: Sequence[Job]) -> list[Job]:
        """The fewest running jobs that have to be paused for a job that waits; none where none may.

        Of lowest priority first, and of those the ones that came last.

        Args:
            job: that waits.
            running: the batch, in which there is no room for it.
        """
        paused: list[Job] = []
        is_urgent = self._is_urgent(job, self._room(running))
        yielding = [other for other in running if self._yields(other, job, is_urgent)]
        for other in sorted(yielding, key=lambda each: (each.priority, -each.admitted)):
            paused.append(other)
            if self._makes_room(paused, job, running):
                break
        else:
            return []
        for each in list(paused):  # of those, whoever can stay after all
            fewer = [one for one in paused if one is not each]
            if self._makes_room(fewer, job, running):
                paused = fewer
        return paused

    def _makes_room(self, paused: Sequence[Job], job: Job, running: Sequence[Job]) -> bool:
        return self.fits((*(each for each in running if each not in paused), job))

    def _yields(self, other: Job, job: Job, is_urgent: bool) -> bool:
        if other.tenant != job.tenant or other.priority > job.priority:
            return False
        return other.priority < job.priority or (is_urgent and self._can_wait(other, job))

    def _room(self, running: Sequence[Job]) -> float:
        """When the first of the running jobs ends."""
        return self._clock() + min((self._left(job) for job in running), default=0.0)

    def _is_urgent(self, job: Job, room: float) -> bool:
        """Whether a job would miss its deadline if it waited for room."""
        return room + self._step_times.usual(job.phases) > job.deadline

    def _can_wait(self, other: Job, job: Job) -> bool:
        """Whether a job keeps its deadline if it goes on once another has ended."""
        end = self._clock() + self._step_times.usual(job.phases) + self._left(other)
        return end <= other.deadline

    def _left(self, job: Job) -> float:
        return self._step_times.usual(job.phases_left, job.step)


def leading(running: Sequence[Job]) -> list[Job]:
    """The jobs that no other of their tenant goes before: those of its highest priority."""
    highest: dict[str, int] = {}
    for job in running:
        highest[job.tenant] = max(job.priority, highest.get(job.tenant, job.priority))
    return [job for job in running if job.priority == highest[job.tenant]]
