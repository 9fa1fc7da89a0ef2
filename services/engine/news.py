"""What a job tells its caller on the way: progress, previews, checkpoints."""

from collections.abc import Callable

from services.engine.counters import Counters
from services.engine.job import Job, Preview, Progress
from services.engine.pace import Pace

PROGRESS_INTERVAL = 0.1
"""Seconds between two progress events of a job, at least."""
COMPANY_INTERVAL = 0.05
"""Seconds times jobs in the batch, the same: each event costs every process that it passes."""


class News:
    """Sends what is due after a job's step; for all jobs of one engine.

    Args:
        pace: measures the time that is left.
        counters: of the engine.
        checkpoint_every: steps of a phase between two checkpoints.
        clock: seconds.
    """

    def __init__(
        self,
        pace: Pace,
        counters: Counters,
        checkpoint_every: int,
        clock: Callable[[], float],
    ) -> None:
        self._pace = pace
        self._counters = counters
        self._checkpoint_every = checkpoint_every
        self._clock = clock

    def tell(self, job: Job, preview: Preview | None, company: int) -> None:
        """Sends what is due after a step of a job, in a batch of so many."""
        steps = len(job.phase.timesteps)
        self._progress(job, steps, company)
        if preview is not None:
            job.emit(preview)
        if job.step < steps and job.step % self._checkpoint_every == 0:
            self.checkpoint(job)

    def checkpoint(self, job: Job) -> None:
        """Sends a checkpoint, where there is anything to keep."""
        checkpoint = job.checkpoint()
        if checkpoint is not None:
            self._counters.checkpoints += 1
            job.emit(checkpoint)

    def _progress(self, job: Job, steps: int, company: int) -> None:
        now = self._clock()
        if job.progress_every is None:
            interval = max(PROGRESS_INTERVAL, COMPANY_INTERVAL * company)
            due = now - job.reported >= interval
        else:
            due = job.step % job.progress_every == 0
        if not due and job.step < steps:
            return
        job.reported = now
        remaining = self._remaining(job, now)
        job.emit(Progress(job.phase.name, job.step, steps, remaining))

    def _remaining(self, job: Job, now: float) -> float:
        """By the job's own steps so far, in which its share of the device shows."""
        own = (now - job.admitted) / job.stats.forwards
        later = job.phases_left[1:]
        return (len(job.phase.timesteps) - job.step) * own + sum(
            self._pace.usual([phase]) or own * len(phase.timesteps) for phase in later
        )
