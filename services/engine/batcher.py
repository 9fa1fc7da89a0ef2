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
from services.device.clock import DeviceClock, HostClock
from services.engine import errors
from services.engine.accounts import Accounts
from services.engine.admission import Admission
from services.engine.advances import Advances
from services.engine.counters import Counters
from services.engine.events import Alive, Event, Finished, Preview
from services.engine.fair_share import FairShare
from services.engine.forwards import Forwards
from services.engine.job import Job
from services.engine.leaving import Leaving
from services.engine.limits import EngineLimits
from services.engine.mailbox import Mailbox
from services.engine.preemption import leading
from services.engine.previews import Previews
from services.engine.progress import ProgressReporter
from services.engine.slices import Slices
from services.engine.stack import Stack
from services.engine.step_times import StepTimeEstimator

logger = logging.getLogger(__name__)

ENGINE_NICE = 5
"""Added to the engine thread's nice value."""


class Batcher:
    """Runs jobs on one thread, which alone touches the device.

    Jobs that can share a forward make up a group. Each step belongs to one group. Tenants are
    admitted by deficit round robin (`Admission`); groups share the device by cost (`FairShare`).

    Args:
        limits: of what it takes on.
        name: of its thread.
        step_times: what was measured before.
        nice: added to the thread's nice value.
        clock: seconds; deadlines of jobs are times on it.
        device: where the networks are, and its time; None for the CPU.
    """

    def __init__(
        self,
        limits: EngineLimits,
        name: str = "engine",
        step_times: StepTimeEstimator | None = None,
        nice: int = ENGINE_NICE,
        clock: Callable[[], float] = time.monotonic,
        device: DeviceClock | None = None,
    ) -> None:
        self.limits = limits
        self.counters = Counters()
        self.step_times = step_times or StepTimeEstimator()
        self._clock = clock
        self._running: list[Job] = []
        self._admission = Admission(limits, self.step_times, self.counters, clock)
        self._share = FairShare()
        self._slices = Slices(self.step_times)
        self._forwards = Forwards(self.counters, clock)
        device = device or HostClock(clock)
        previews = Previews(self.counters, device)
        self._advances = Advances(previews)
        self._accounts = Accounts(self.step_times, self._share, previews, self.counters, device)
        self._reporter = ProgressReporter(
            self.step_times, self.counters, limits.snapshot_every, clock
        )
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
        """Jobs that wait to be admitted."""
        return len(self._admission)

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
                        event: Event | Leaving | Exception = await events.get()
                except TimeoutError:
                    event = Alive()
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Leaving):
                    event = await event.arrived()
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
        with self._wake:
            if self._draining:
                raise errors.draining()
            self._admission.submit(job, self._running)
            self._wake.notify()

    def _loop(self, nice: int) -> None:
        _yield_to_others(nice)
        with torch.inference_mode():
            while not self._closing:
                with self._wake:
                    self._wake.wait_for(
                        lambda: self._draining or bool(self._admission) or bool(self._running)
                    )
                    if self._draining:
                        self._evict_all()
                        self._wake.wait_for(lambda: self._closing)
                        continue
                    changes = self._admission.admit(self._running)
                    self._admission.report_places()
                for job in changes.admitted:
                    self._attempt(job, partial(job.begin, self._clock()))
                self._running = [job for job in changes.running if self._admission.stays(job)]
                if self._running:
                    self._step()
                else:
                    self._accounts.time()
        self._evict_all()

    def _step(self) -> None:
        """Select a group of jobs, run their forward, advance each of them."""
        jobs = self._select()
        step = self._accounts.begin(jobs)
        for stack, output in self._forwards.run(jobs, self._fail):
            self._advance(stack, output)
        preview_costs = self._accounts.settle(step, self._running)
        with self._wake:
            self._admission.charge(preview_costs)

    def _select(self) -> list[Job]:
        """The running jobs of the group that is furthest behind its share.

        Jobs of a tenant's lower priorities take no turns, but share those of their group. Whole
        passes go first: then the jobs that leave out the deep part are in step again.
        """
        first = leading(self._running)
        group = self._share.next({job.group: None for job in self._slices.due(first)})
        jobs = [job for job in self._running if job.group == group]
        jobs = self._slices.cut(jobs, first)
        return [job for job in jobs if not job.is_shallow] or jobs

    def _advance(self, stack: Stack, output: torch.Tensor) -> None:
        for job, preview in self._advances.take(stack, output, self._is_alone, self._fail):
            self._attempt(job, partial(self._report, job, preview))

    def _report(self, job: Job, preview: Preview | None) -> None:
        """Send what is due after a step; after a phase's last, go on to what follows."""
        self._reporter.report(job, preview, len(self._running))
        if job.step == len(job.phase.timesteps):
            job.enter_next_phase(self._clock())
            self.counters.finished += job.ended

    def _is_alone(self, job: Job) -> bool:
        """Whether all jobs that run and wait are of one tenant."""
        if any(other.tenant != job.tenant for other in self._running):
            return False
        with self._wake:
            return self._admission.has_only(job.tenant)

    def _evict_all(self) -> None:
        self._accounts.time()
        for job in (*self._running, *self._admission.pop_all()):
            if not job.ended:
                self.counters.drained += 1
                self._attempt(job, partial(self._reporter.snapshot, job))
            if not job.ended:
                job.end(errors.draining())
        self._running = []

    def _attempt(self, job: Job, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, KandinskyError):
            logger.error("job %s failed", job.id, exc_info=error)
        self.counters.failed += 1
        job.end(errors.failed(error))


def _yield_to_others(nice: int) -> None:
    """Lets whoever shares the cores go first: callers are answered while networks compute."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, own + nice)
