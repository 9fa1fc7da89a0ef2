"""The engine: a running batch that jobs join and leave between any two steps."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

import torch

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.counters import Counters, Forward
from services.engine.job import Event, Finished, GroupKey, Job, Queued
from services.engine.limits import EngineLimits
from services.engine.phase import Phase

logger = logging.getLogger(__name__)


class Batcher:
    """Runs jobs on one thread, which alone touches the device.

    At every turn, jobs that can share a forward make up a group, and the group that has waited
    longest takes one step.
    """

    def __init__(self, limits: EngineLimits, name: str = "engine") -> None:
        self.limits = limits
        self.counters = Counters()
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._last_turn: dict[GroupKey, int] = {}
        self._stacked_phases: list[Phase] = []
        self._stacked: dict[str, torch.Tensor] = {}
        self._last_finish = time.monotonic()
        self._seconds_a_job = 1.0
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises RuntimeError if the engine's thread has died."""
        if not self._thread.is_alive():
            raise RuntimeError(f"the thread of {self._thread.name} has died")

    async def run(self, job: Job) -> AsyncIterator[Event]:
        """Submits a job and yields its events; the last is Finished.

        Leaving the iteration early drops the job within one step.

        Raises:
            KandinskyError: OVERLOADED at once when the queue is full; DEADLINE_EXCEEDED when
                the job's deadline passes; DRAINING when the engine closes; INTERNAL when the
                model fails.
        """
        events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        job.emit = partial(_post, asyncio.get_running_loop(), events)
        self._submit(job)
        try:
            while True:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            job.abandoned = True

    def close(self) -> None:
        """Stops after the step under way; every job that is left fails with DRAINING."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _submit(self, job: Job) -> None:
        with self._wake:
            if self._closing:
                raise _draining()
            waiting = len(self._waiting)
            if waiting >= self.limits.max_queue:
                self.counters.refused += 1
                raise KandinskyError(
                    Reason.OVERLOADED,
                    f"{waiting} jobs wait already",
                    retry_after=max(0.1, waiting * self._seconds_a_job),
                )
            self._waiting.append(job)
            job.emit(Queued(waiting))
            self._wake.notify()

    def _loop(self) -> None:
        with torch.inference_mode():
            while not self._closing:
                with self._wake:
                    self._wake.wait_for(
                        lambda: self._closing or bool(self._waiting) or bool(self._running)
                    )
                    admitted = self._admit()
                for job in admitted:
                    self._attempt(job, job.begin)
                self._running = [job for job in self._running if self._is_wanted(job)]
                if self._running:
                    self._step(self._next_group())
        for job in (*self._running, *self._waiting):
            if not job.ended:
                job.end(_draining())

    def _admit(self) -> list[Job]:
        """Moves jobs from the queue into the running batch while they fit, first come first."""
        self._waiting = deque(job for job in self._waiting if self._is_wanted(job))
        admitted = []
        while self._waiting and (not self._running or self._fits(self._waiting[0])):
            job = self._waiting.popleft()
            self._running.append(job)
            admitted.append(job)
        self.counters.admitted += len(admitted)
        return admitted

    def _fits(self, job: Job) -> bool:
        jobs = (*self._running, job)
        return (
            sum(other.rows for other in jobs) <= self.limits.max_batch_rows
            and sum(other.pixels for other in jobs) <= self.limits.max_batch_pixels
        )

    def _is_wanted(self, job: Job) -> bool:
        """Whether to go on with a job; one past its deadline is told so."""
        if job.ended:
            return False
        if job.abandoned:
            self.counters.abandoned += 1
            return False
        if time.monotonic() >= job.deadline:
            self.counters.expired += 1
            job.end(KandinskyError(Reason.DEADLINE_EXCEEDED, "the deadline passed at work"))
            return False
        return True

    def _next_group(self) -> list[Job]:
        groups: dict[GroupKey, list[Job]] = {}
        for job in self._running:
            groups.setdefault(job.group, []).append(job)
        key = min(groups, key=lambda key: self._last_turn.get(key, -1))
        self._last_turn = {other: self._last_turn.get(other, -1) for other in groups}
        self._last_turn[key] = self.counters.forwards
        return groups[key]

    def _step(self, jobs: list[Job]) -> None:
        """One forward for all the jobs of a group, and one scheduler step for each."""
        network = jobs[0].phase.network
        counts = [job.phase.rows for job in jobs]
        rows = sum(counts)
        pairs = list(zip(jobs, counts, strict=True))
        try:
            output = network(
                torch.cat([_repeat(job.inputs(), count) for job, count in pairs]),
                torch.stack([job.timestep for job, count in pairs for _ in range(count)]),
                self._conditioning(jobs),
            )
        except Exception:
            logger.exception("a forward of %s with %d rows failed", network.name, rows)
            for job in jobs:
                self._fail(job)
            return
        done = tuple((job.id, job.step) for job in jobs)
        self.counters.note_forward(Forward(network.name, rows, done))
        for job, own in zip(jobs, output.split(counts), strict=True):
            job.note_forward(rows, shared=len(jobs) > 1)
            self._attempt(job, partial(job.advance, own))
            if job.ended:
                self._note_finish()

    def _conditioning(self, jobs: list[Job]) -> dict[str, torch.Tensor]:
        """The jobs' conditioning stacked row under row; kept while the same jobs go on."""
        phases = [job.phase for job in jobs]
        unchanged = len(phases) == len(self._stacked_phases) and all(
            phase is before for phase, before in zip(phases, self._stacked_phases, strict=True)
        )
        if not unchanged:
            names = phases[0].conditioning
            self._stacked = {
                name: torch.cat([phase.conditioning[name] for phase in phases]) for name in names
            }
            self._stacked_phases = phases
        return self._stacked

    def _attempt(self, job: Job, action: Callable[[], None]) -> None:
        try:
            action()
        except KandinskyError as error:
            self.counters.failed += 1
            job.end(error)
        except Exception:
            logger.exception("job %s failed", job.id)
            self._fail(job)

    def _fail(self, job: Job) -> None:
        self.counters.failed += 1
        job.end(KandinskyError(Reason.INTERNAL, "the model failed on this request"))

    def _note_finish(self) -> None:
        now = time.monotonic()
        self.counters.finished += 1
        self._seconds_a_job += 0.1 * (now - self._last_finish - self._seconds_a_job)
        self._last_finish = now


def _repeat(row: torch.Tensor, count: int) -> torch.Tensor:
    return row.expand(count, *row.shape[1:])


def _post(
    loop: asyncio.AbstractEventLoop,
    events: "asyncio.Queue[Event | Exception]",
    event: Event | Exception,
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, event)


def _draining() -> KandinskyError:
    return KandinskyError(Reason.DRAINING, "this replica is shutting down", retry_after=1.0)
