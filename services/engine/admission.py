"""Admission: which jobs wait, which of them enter the running batch, and which are refused."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kandinsky.wire.errors import KandinskyError
from services.engine import errors
from services.engine.counters import Counters, Leave
from services.engine.events import Queued
from services.engine.fair_queue import FairQueue
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.preemption import Preemption
from services.engine.step_times import StepTimeEstimator

UNMEASURED_RETRY = 1.0
"""Seconds, before anything was measured."""
DOUBT = 0.7
"""Share of the estimated wait that counts against a deadline: others may leave early."""
POSITIONS_EVERY, POSITION_EVERY = 0.5, 0.1
"""Seconds between two rounds of Queued events: at least, and for each job that waits."""


@dataclass
class Changes:
    """What becomes of the running batch."""

    running: list[Job]
    """From now on."""
    admitted: list[Job] = field(default_factory=list)
    """Those of them that begin, or go on after a pause."""


class Admission:
    """The queue of one engine. Not thread-safe: the engine holds its lock around each call.

    Args:
        limits: of the engine.
        step_times: estimate waits.
        counters: of the engine.
        clock: seconds.
    """

    def __init__(
        self,
        limits: EngineLimits,
        step_times: StepTimeEstimator,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._step_times = step_times
        self._counters = counters
        self._clock = clock
        self._queue = FairQueue()
        self._preemption = Preemption(limits, step_times, clock)
        self._reported = 0.0

    def __len__(self) -> int:
        """Jobs that wait: to be admitted, or to go on."""
        return len(self._queue)

    def submit(self, job: Job, running: Sequence[Job] = ()) -> None:
        """Put a job into the queue, and emit its place.

        Args:
            job: new.
            running: the batch as it is.

        Raises:
            KandinskyError: DEADLINE_EXCEEDED if there is no time even for the job alone;
                OVERLOADED, with a time to come back, if what waits before it takes the time, or if
                the queue is full.
        """
        job.arrived = self._clock()
        try:
            self._check_deadline(job, running)
            if len(self._queue) >= self._limits.max_queue:
                self._make_room(job)
        except KandinskyError:
            self._counters.refused += 1
            raise
        self._queue.push(job)
        job.emit(self._place(job))

    def admit(self, running: Sequence[Job]) -> Changes:
        """Decide who enters the running batch and who makes room.

        The head of the queue is not overtaken by a smaller job: it would never find room.

        Args:
            running: the batch as it is.
        """
        self._queue.keep_only(self.stays)
        changes = Changes([job for job in running if self.stays(job)])
        while self._queue:
            job = self._queue.head()
            if changes.running and not self._preemption.fits((*changes.running, job)):
                break
            self._queue.pop()
            if self._clock() + self._shortest(job) > job.deadline:
                self._counters.expired += 1
                job.end(errors.deadline_exceeded("the deadline cannot be kept any more"))
                continue
            self._enter(job, changes)
        self._preempt(changes)
        return changes

    def _preempt(self, changes: Changes) -> None:
        """Pause running jobs for those that wait and go before them."""
        while found := self._preemption.next(
            (job for job in self._queue if self._queue.may_exchange(job.tenant)),
            changes.running,
            changes.admitted,
        ):
            job, paused = found
            for each in paused:
                each.pause(self._clock())
            self._counters.preempted += len(paused)
            self._queue.exchange(job, paused)
            changes.running = [each for each in changes.running if not each.is_paused]
            self._enter(job, changes)

    def _enter(self, job: Job, changes: Changes) -> None:
        if not job.is_paused:
            self._counters.admitted += 1
            self._counters.resumed += job.resume_from is not None
        changes.admitted.append(job)
        changes.running.append(job)

    def stays(self, job: Job) -> bool:
        """Whether a job goes on; end one that is past its deadline with an error.

        One that does not lets go of its state.
        """
        if job.ended:
            return False
        now = self._clock()
        if now < job.expires_at:
            return True
        self._counters.leaves.append(Leave(job.id, job.late_steps, now - job.expires_at))
        if job.abandoned:
            self._counters.abandoned += 1
            job.leave()
        else:
            self._counters.expired += 1
            job.end(errors.deadline_exceeded("the deadline passed at work"))
        return False

    def report_places(self) -> None:
        """Emit the places of all jobs that wait, where the last time is long enough ago."""
        now = self._clock()
        interval = max(POSITIONS_EVERY, POSITION_EVERY * len(self._queue))
        if not self._queue or now - self._reported < interval:
            return
        self._reported = now
        for job in self._queue:
            if not job.is_paused:
                job.emit(self._place(job))

    def pop_all(self) -> list[Job]:
        """Take every job out of the queue."""
        return self._queue.pop_all()

    def charge(self, costs: Mapping[str, float]) -> None:
        """Let tenants wait for what they used beside their jobs' own cost; see FairQueue."""
        self._queue.charge(costs)

    def has_only(self, tenant: str) -> bool:
        """Whether no job of another tenant waits."""
        return all(job.tenant == tenant for job in self._queue)

    def _check_deadline(self, job: Job, running: Sequence[Job]) -> None:
        if job.deadline == math.inf:
            return
        left, alone = job.deadline - job.arrived, self._shortest(job)
        if alone > left:
            raise errors.deadline_exceeded(
                f"this takes {alone:.2f} s at the least, and {left:.2f} s are left"
            )
        wait = self._place(job).wait or 0.0
        if DOUBT * wait + alone > left and not self._preemption.victims(job, running):
            raise errors.overloaded(
                f"about {wait:.1f} s of work wait before this, and {left:.1f} s are left", wait
            )

    def _make_room(self, job: Job) -> None:
        """Refuse the tenant that fills the queue: the newcomer, or its last waiting job.

        By `retry_after`, half of the queue is done at the measured rate.
        """
        seconds = self._step_times.seconds(self._queue.cost / 2)
        refusal = errors.overloaded(
            f"{len(self._queue)} jobs wait already",
            UNMEASURED_RETRY if seconds is None else seconds,
        )
        longest = self._queue.longest()
        last = None if longest == job.tenant else self._queue.pop_last(longest)
        if last is None:
            raise refusal
        self._counters.refused += 1
        last.end(refusal)

    def _place(self, job: Job) -> Queued:
        cost = sum(other.cost for other in self._queue.ahead(job))
        return Queued(self._queue.position(job), self._step_times.seconds(cost))

    def _shortest(self, job: Job) -> float:
        return self._step_times.least(*job.left)
