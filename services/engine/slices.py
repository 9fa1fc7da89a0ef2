"""Passes in slices: decoding images holds up the denoising of others for a step at the most."""

from collections.abc import Sequence

from services.engine.job import Job
from services.engine.step_times import StepTimeEstimator


class Slices:
    """Cuts the steps of phases of one pass, while loops run beside them.

    Args:
        step_times: of the engine.
    """

    def __init__(self, step_times: StepTimeEstimator) -> None:
        self._step_times = step_times
        self._held_up = False
        """Whether the latest step was a slice, so that a loop's is next."""

    def due(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs whose groups may take the next step: after a slice, those in loops.

        Args:
            jobs: all that take turns.
        """
        loops = [job for job in jobs if _is_loop(job)]
        return loops if self._held_up and loops else jobs

    def cut(self, jobs: list[Job], beside: Sequence[Job]) -> list[Job]:
        """The jobs of a group that take the next step.

        All of them, but of passes beside loops only so many as their measured times fit into a step
        of those; one at the least.

        Args:
            jobs: of the group.
            beside: all that take turns; those of the group go before its others.
        """
        loops = [job for job in beside if _is_loop(job)]
        self._held_up = bool(loops) and not any(_is_loop(job) for job in jobs)
        if not self._held_up:
            return jobs
        longest = max(self._step_times.step(job.phase) for job in loops)
        each = self._step_times.row(jobs[0].phase) * jobs[0].phase.rows
        most = int(longest / each) if each else 1
        taking_turns = set(beside)
        return sorted(jobs, key=lambda job: job not in taking_turns)[: max(most, 1)]


def _is_loop(job: Job) -> bool:
    return len(job.phase.timesteps) > 1
