"""The engine: a running batch that jobs join and leave between any two steps."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

import torch

from kandinsky.wire.errors import KandinskyError
from services.engine import admission
from services.engine.counters import Counters, Leave
from services.engine.fair_queue import FairQueue
from services.engine.fair_share import FairShare
from services.engine.forwards import Forwards
from services.engine.job import Alive, Event, Finished, GroupKey, Job, Queued
from services.engine.limits import EngineLimits
from services.engine.mailbox import Mailbox
from services.engine.previews import Previews
from services.engine.progress import ProgressReporter
from services.engine.step_times import StepTimeEstimator

logger = logging.getLogger(__name__)

ENGINE_NICE = 5
"""Added to the engine thread's nice value."""

POSITIONS_EVERY, POSITION_EVERY = 0.5, 0.1
"""Seconds between two rounds of Queued events: at least, and for each job that waits."""


class Batcher:
    """Runs jobs on one thread, which alone touches the device.

    Jobs that can share a forward make up a group. Each step belongs to one group. Tenants are
    let in by deficit round robin (`FairQueue`), and groups share the device by cost (`FairShare`).

    Args:
        limits: of what it takes on.
        name: of its thread.
        step_times: what was measured before.
        nice: added to the thread's nice value.
        clock: seconds; deadlines of jobs are times on it.
    """

    def __init__(
        self,
        limits: EngineLimits,
        name: str = "engine",
        step_times: StepTimeEstimator | None = None,
        nice: int = ENGINE_NICE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.counters = Counters()
        self.step_times = step_times or StepTimeEstimator()
        self._clock = clock
        self._queue = FairQueue()
        self._running: list[Job] = []
        self._fair_share = FairShare()
        self._forwards = Forwards(self.counters, clock)
        self._previews = Previews(self.counters, clock)
        self._reporter = ProgressReporter(
            self.step_times, self.counters, limits.snapshot_every, clock
        )
        self._positions_reported = 0.0
        self._draining = False
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, args=(nice,), name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Jobs in the running batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs that wait to be let in."""
        return len(self._queue)

    def check(self) -> None:
        """Raises RuntimeError if the engine's thread has died."""
        if not self._thread.is_alive():
            raise RuntimeError(f"the thread of {self._thread.name} has died")

    async def run(self, job: Job) -> AsyncGenerator[Event, None]:
        """Submits a job and yields its events; the last is Finished.

        Leaving the iteration early drops the job within one step.

        Raises:
            KandinskyError: at once, OVERLOADED when the queue is full and DEADLINE_EXCEEDED or
                OVERLOADED when the deadline cannot be kept; DEADLINE_EXCEEDED when it passes;
                DRAINING, after a snapshot, when the engine shuts down; INTERNAL when the model
                fails.
        """
        events = Mailbox(asyncio.get_running_loop())
        job.emit = events.put
        self._submit(job)
        try:
            while True:
                try:
                    # Not wait_for: before Python 3.12 it loses a cancel that comes with an event.
                    async with asyncio.timeout(self.limits.alive_seconds):
                        event = await events.get()
                except TimeoutError:
                    event = Alive()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            if not job.ended:
                job.abandon(self._clock())

    def drain(self) -> None:
        """Snapshot and evict all jobs after the current step; reject new ones."""
        with self._wake:
            self._draining = True
            self._wake.notify()

    def close(self) -> None:
        """Drains, and ends the thread."""
        with self._wake:
            self._draining = self._closing = True
            self._wake.notify()
        self._thread.join()

    def _submit(self, job: Job) -> None:
        job.arrived = self._clock()
        with self._wake:
            if self._draining:
                raise admission.draining()
            try:
                admission.check_deadline(job, self._queue, self.step_times, job.arrived)
                if len(self._queue) >= self.limits.max_queue:
                    self._make_room(job)
            except KandinskyError:
                self.counters.refused += 1
                raise
            self._queue.push(job)
            job.emit(self._place(job))
            self._wake.notify()

    def _make_room(self, job: Job) -> None:
        """Refuse the tenant that fills the queue: the newcomer, or its last waiting job."""
        refusal = admission.overloaded(self._queue, self.step_times)
        longest = self._queue.longest()
        if longest == job.tenant:
            raise refusal
        self.counters.refused += 1
        self._queue.pop_last(longest).end(refusal)

    def _place(self, job: Job) -> Queued:
        ahead = sum(other.cost for other in self._queue.ahead(job))
        return Queued(self._queue.position(job), self.step_times.seconds(ahead))

    def _loop(self, nice: int) -> None:
        _yield_to_others(nice)
        with torch.inference_mode():
            while not self._closing:
                with self._wake:
                    self._wake.wait_for(
                        lambda: self._draining or bool(self._queue) or bool(self._running)
                    )
                    if self._draining:
                        self._evict_all()
                        self._wake.wait_for(lambda: self._closing or not self._draining)
                        continue
                    admitted = self._admit()
                    self._report_positions()
                for job in admitted:
                    self._attempt(job, partial(job.begin, self._clock()))
                self._running = [job for job in self._running if self._is_live(job)]
                if self._running:
                    self._step(self._next_group())
        self._evict_all()

    def _evict_all(self) -> None:
        for job in (*self._running, *self._queue.pop_all()):
            if not job.ended:
                self.counters.drained += 1
                self._attempt(job, partial(self._reporter.snapshot, job))
            if not job.ended:
                job.end(admission.draining())
        self._running = []

    def _admit(self) -> list[Job]:
        """Moves jobs from the queue into the running batch while they fit.

        The head of the queue is not overtaken by a smaller job: it would never find room.
        """
        self._queue.keep_only(self._is_live)
        admitted = []
        while self._queue:
            job = self._queue.head()
            if self._running and not self._fits(job):
                break
            self._queue.pop()
            if admission.cannot_meet_deadline(job, self.step_times, self._clock()):
                self.counters.expired += 1
                job.end(admission.deadline_exceeded("the deadline cannot be kept any more"))
                continue
            self._running.append(job)
            admitted.append(job)
        self.counters.admitted += len(admitted)
        self.counters.resumed += sum(job.resume_from is not None for job in admitted)
        return admitted

    def _fits(self, job: Job) -> bool:
        jobs = (*self._running, job)
        return (
            sum(other.rows for other in jobs) <= self.limits.rows
            and sum(other.latent_area for other in jobs) <= self.limits.latent_area
        )

    def _report_positions(self) -> None:
        now = self._clock()
        interval = max(POSITIONS_EVERY, POSITION_EVERY * len(self._queue))
        if not self._queue or now - self._positions_reported < interval:
            return
        self._positions_reported = now
        for job in self._queue:
            job.emit(self._place(job))

    def _is_live(self, job: Job) -> bool:
        """Whether a job goes on; end one that is past its deadline with an error."""
        if job.ended:
            return False
        now = self._clock()
        if now < job.expires_at:
            return True
        self.counters.leaves.append(Leave(job.id, job.late_steps, now - job.expires_at))
        if job.abandoned:
            self.counters.abandoned += 1
        else:
            self.counters.expired += 1
            job.end(admission.deadline_exceeded("the deadline passed at work"))
        return False

    def _next_group(self) -> list[Job]:
        groups: dict[GroupKey, list[Job]] = {}
        for job in self._running:
            groups.setdefault(job.group, []).append(job)
        self._forwards.keep(self._running)
        return groups[self._fair_share.next(groups)]

    def _step(self, jobs: list[Job]) -> None:
        """One forward for all the jobs of a group, and one scheduler step for each."""
        begun, forwards = self._clock(), self.counters.forwards
        phase, group = jobs[0].phase, jobs[0].group
        rows = sum(job.phase.rows for job in jobs)
        for job, output in self._forwards.run(jobs, self._fail):
            self._attempt(job, partial(self._advance, job, output))
        seconds, spent = self._previews.settle(self._clock() - begun, self._running)
        if self.counters.forwards > forwards:
            self.step_times.record(phase, rows, seconds)
        extra = {tenant: self.step_times.cost(each) or 0.0 for tenant, each in spent.items()}
        self._fair_share.record(group, rows * phase.latent_area + sum(extra.values()), len(jobs))
        with self._wake:
            self._queue.charge(extra)

    def _advance(self, job: Job, output: torch.Tensor) -> None:
        preview = None
        if job.preview_is_due:
            preview = self._previews.make(job, output, self._is_alone(job))
        job.advance(output)
        self._reporter.report(job, preview, len(self._running))
        if job.step == len(job.phase.timesteps):
            job.go_on(self._clock())
            self.counters.finished += job.ended

    def _is_alone(self, job: Job) -> bool:
        """Whether all jobs that run and wait are of one tenant."""
        if any(other.tenant != job.tenant for other in self._running):
            return False
        with self._wake:
            return all(other.tenant == job.tenant for other in self._queue)

    def _attempt(self, job: Job, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, KandinskyError):
            logger.error("job %s failed", job.id, exc_info=error)
        self.counters.failed += 1
        job.end(admission.failed(error))


def _yield_to_others(nice: int) -> None:
    """Lets whoever shares the cores go first: callers are answered while networks compute."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, own + nice)
