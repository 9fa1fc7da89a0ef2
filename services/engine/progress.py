"""Events of a job under way: progress, previews, snapshots."""

from collections.abc import Callable

from services.engine.counters import Counters
from services.engine.events import Preview, Progress
from services.engine.job import Job
from services.engine.step_times import StepTimeEstimator

PROGRESS_INTERVAL = 0.1
"""Seconds between two progress events of a job, at least."""
INTERVAL_PER_JOB = 0.05
"""Seconds times jobs in the batch, the same: each event costs every process that it passes."""


class ProgressReporter:
    """Sends what is due after a job's step; for all jobs of one engine.

    Args:
        step_times: measures the time that is left.
        counters: of the engine.
        snapshot_every: steps of a phase between two snapshots.
        clock: seconds.
    """

    def __init__(
        self,
        step_times: StepTimeEstimator,
        counters: Counters,
        snapshot_every: int,
        clock: Callable[[], float],
    ) -> None:
        self._step_times = step_times
        self._counters = counters
        self._snapshot_every = snapshot_every
        self._clock = clock

    def report(self, job: Job, preview: Preview | None, running: int) -> None:
        """Sends what is due after a step of a job, in a batch of so many."""
        steps = len(job.phase.timesteps)
        self._progress(job, steps, running)
        if preview is not None:
            job.emit(preview)
        if job.step < steps and job.step % self._snapshot_every == 0:
            self.snapshot(job)

    def snapshot(self, job: Job) -> None:
        """Sends a snapshot, where there is anything to keep."""
        snapshot = job.snapshot()
        if snapshot is not None:
            self._counters.snapshots += 1
            job.emit(snapshot)

    def _progress(self, job: Job, steps: int, running: int) -> None:
        now = self._clock()
        if job.progress_every is None:
            interval = max(PROGRESS_INTERVAL, INTERVAL_PER_JOB * running)
            due = now - job.reported >= interval
        else:
            due = job.step == 1 or job.step % job.progress_every == 0
        if not due and job.step < steps:
            return
        job.reported = now
        remaining = self._remaining(job, now)
        job.emit(Progress(job.phase.name, job.step, steps, remaining))

    def _remaining(self, job: Job, now: float) -> float:
        """By the job's own steps so far, in which its share of the device shows."""
        own = (now - job.admitted - job.paused) / job.stats.forwards
        later = job.phases_left[1:]
        return (len(job.phase.timesteps) - job.step) * own + sum(
            self._step_times.usual([phase]) or own * len(phase.timesteps) for phase in later
        )
