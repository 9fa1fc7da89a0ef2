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
from services.engine import refusals
from services.engine.counters import Counters, Leave
from services.engine.forwards import Forwards
from services.engine.job import Alive, Event, Finished, GroupKey, Job, Queued
from services.engine.limits import EngineLimits
from services.engine.line import Line
from services.engine.mailbox import Mailbox
from services.engine.news import News
from services.engine.pace import Pace
from services.engine.previews import Previews
from services.engine.turns import Turns

logger = logging.getLogger(__name__)

ENGINE_NICE = 5
"""Added to the engine thread's nice value."""

POSITIONS_EVERY, POSITION_EVERY = 0.5, 0.1
"""Seconds between two rounds of telling who waits where: at least, and for each that waits."""


class Batcher:
    """Runs jobs on one thread, which alone touches the device.

    Jobs that can share a forward make up a group. At every turn, one group takes one step. Tenants
    are let in by turns (`Line`), and groups share the device by cost (`Turns`).

    Args:
        limits: of what it takes on.
        name: of its thread.
        pace: what was measured before.
        nice: added to the thread's nice value.
        clock: seconds; deadlines of jobs are times on it.
    """

    def __init__(
        self,
        limits: EngineLimits,
        name: str = "engine",
        pace: Pace | None = None,
        nice: int = ENGINE_NICE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.counters = Counters()
        self.pace = pace or Pace()
        self._clock = clock
        self._line = Line()
        self._running: list[Job] = []
        self._turns = Turns()
        self._forwards = Forwards(self.counters, clock)
        self._previews = Previews(self.counters, clock)
        self._news = News(self.pace, self.counters, limits.checkpoint_every, clock)
        self._positions_told = 0.0
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
        return len(self._line)

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
                DRAINING, after a checkpoint, when the engine shuts down; INTERNAL when the model
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
        """Sends every job away after the step under way, with a checkpoint; takes no more."""
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
                raise refusals.draining()
            try:
                refusals.check_deadline(job, self._line, self.pace, job.arrived)
                if len(self._line) >= self.limits.max_queue:
                    self._make_room(job)
            except KandinskyError:
                self.counters.refused += 1
                raise
            self._line.push(job)
            job.emit(self._place(job))
            self._wake.notify()

    def _make_room(self, job: Job) -> None:
        """A full queue turns away the tenant that fills it: the newcomer, or its last one."""
        refusal = refusals.overloaded(self._line, self.pace)
        longest = self._line.longest()
        if longest == job.tenant:
            raise refusal
        self.counters.refused += 1
        self._line.pop_last(longest).end(refusal)

    def _place(self, job: Job) -> Queued:
        ahead = sum(other.cost for other in self._line.ahead(job))
        return Queued(self._line.position(job), self.pace.seconds(ahead))

    def _loop(self, nice: int) -> None:
        _yield_to_others(nice)
        with torch.inference_mode():
            while not self._closing:
                with self._wake:
                    self._wake.wait_for(
                        lambda: self._draining or bool(self._line) or bool(self._running)
                    )
                    if self._draining:
                        self._send_away()
                        self._wake.wait_for(lambda: self._closing or not self._draining)
                        continue
                    admitted = self._admit()
                    self._tell_positions()
                for job in admitted:
                    self._attempt(job, partial(job.begin, self._clock()))
                self._running = [job for job in self._running if self._is_wanted(job)]
                if self._running:
                    self._step(self._next_group())
        self._send_away()

    def _send_away(self) -> None:
        for job in (*self._running, *self._line.take()):
            if not job.ended:
                self.counters.drained += 1
                self._attempt(job, partial(self._news.checkpoint, job))
            if not job.ended:
                job.end(refusals.draining())
        self._running = []

    def _admit(self) -> list[Job]:
        """Moves jobs from the line into the running batch while they fit.

        The head of the line is not overtaken by a smaller job: it would never find room.
        """
        self._line.remove_if_not(self._is_wanted)
        admitted = []
        while self._line:
            job = self._line.head()
            if self._running and not self._fits(job):
                break
            self._line.pop()
            if refusals.is_hopeless(job, self.pace, self._clock()):
                self.counters.expired += 1
                job.end(refusals.deadline_exceeded("the deadline cannot be kept any more"))
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
            and sum(other.pixels for other in jobs) <= self.limits.pixels
        )

    def _tell_positions(self) -> None:
        now = self._clock()
        interval = max(POSITIONS_EVERY, POSITION_EVERY * len(self._line))
        if not self._line or now - self._positions_told < interval:
            return
        self._positions_told = now
        for job in self._line:
            job.emit(self._place(job))

    def _is_wanted(self, job: Job) -> bool:
        """Whether to go on with a job; one past its deadline is told so."""
        if job.ended:
            return False
        now = self._clock()
        if now < job.unwanted_since:
            return True
        self.counters.leaves.append(Leave(job.id, job.late_steps, now - job.unwanted_since))
        if job.abandoned:
            self.counters.abandoned += 1
        else:
            self.counters.expired += 1
            job.end(refusals.deadline_exceeded("the deadline passed at work"))
        return False

    def _next_group(self) -> list[Job]:
        groups: dict[GroupKey, list[Job]] = {}
        for job in self._running:
            groups.setdefault(job.group, []).append(job)
        self._forwards.keep(self._running)
        return groups[self._turns.next(groups)]

    def _step(self, jobs: list[Job]) -> None:
        """One forward for all the jobs of a group, and one scheduler step for each."""
        begun, forwards = self._clock(), self.counters.forwards
        phase, group = jobs[0].phase, jobs[0].group
        rows = sum(job.phase.rows for job in jobs)
        for job, output in self._forwards.run(jobs, self._fail):
            self._attempt(job, partial(self._advance, job, output))
        seconds, spent = self._previews.settle(self._clock() - begun, self._running)
        if self.counters.forwards > forwards:
            self.pace.note(phase, rows, seconds)
        extra = {tenant: self.pace.cost(each) or 0.0 for tenant, each in spent.items()}
        self._turns.note(group, rows * phase.pixels + sum(extra.values()), len(jobs))
        with self._wake:
            self._line.charge(extra)

    def _advance(self, job: Job, output: torch.Tensor) -> None:
        preview = None
        if job.preview_is_due:
            preview = self._previews.make(job, output, self._is_alone(job))
        job.advance(output)
        self._news.tell(job, preview, len(self._running))
        if job.step == len(job.phase.timesteps):
            job.go_on(self._clock())
            self.counters.finished += job.ended

    def _is_alone(self, job: Job) -> bool:
        """Whether all jobs that run and wait are of one tenant."""
        if any(other.tenant != job.tenant for other in self._running):
            return False
        with self._wake:
            return all(other.tenant == job.tenant for other in self._line)

    def _attempt(self, job: Job, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, KandinskyError):
            logger.error("job %s failed", job.id, exc_info=error)
        self.counters.failed += 1
        job.end(refusals.failed(error))


def _yield_to_others(nice: int) -> None:
    """Lets whoever shares the cores go first: callers are answered while networks compute."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, own + nice)
