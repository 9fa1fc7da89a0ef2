"""Passes in slices: decoding images holds up the denoising of others for a step at the most."""

from collections.abc import Sequence

from services.engine.job import Job
from services.engine.step_times import StepTimeEstimator


def slice_of(
    jobs: Sequence[Job], running: Sequence[Job], step_times: StepTimeEstimator
) -> list[Job]:
    """The jobs of a group that take the next step.

    All of them, but of a phase of one pass, while loops run beside it, only so many as their
    measured times fit into a step of those; one at the least.

    Args:
        jobs: of the group.
        running: all jobs at work.
        step_times: of the engine.
    """
    loops = [job for job in running if _is_loop(job)]
    each = step_times.row(jobs[0].phase)
    if _is_loop(jobs[0]) or not loops or not each:
        return list(jobs)
    longest = max(step_times.step(job.phase) for job in loops)
    return list(jobs[: max(1, int(longest / (each * jobs[0].phase.rows)))])


def _is_loop(job: Job) -> bool:
    return len(job.phase.timesteps) > 1
