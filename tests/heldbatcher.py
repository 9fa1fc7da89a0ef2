"""An engine whose steps a test can hold."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from services.engine.batcher import Batcher
from services.engine.events import Event
from services.engine.job import Job
from services.engine.limits import EngineLimits


class HeldBatcher(Batcher):
    """Waits before steps, so that a test says who is there at which of them."""

    def __init__(
        self,
        limits: EngineLimits,
        name: str = "engine",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = threading.Event()
        self._open.set()
        self._stop_at: tuple[str, int, str | None] | None = None
        self._stopped = asyncio.Event()
        self.waits_for_readers = False
        """Whether each step waits until all events before it are read: else readers miss some."""
        self._events = asyncio.get_running_loop()
        self._came: Counter[str] = Counter()
        self._went: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self.asked: list[Job] = []
        """All jobs that it has been given."""
        super().__init__(limits, name, clock=clock)

    def hold(self) -> None:
        """Lets no step begin until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Lets steps go on."""
        self._open.set()

    async def held_at(self, job: str, step: int, phase: str | None = None) -> None:
        """Waits until a job's denoising loop is about to take a step, which is held.

        Args:
            job: its name.
            step: steps done.
            phase: the loop's name; None for the first that comes so far.
        """
        self._stopped.clear()
        self._stop_at = job, step, phase
        self._open.set()
        await self._stopped.wait()

    async def arrival(self, job: str, jobs: int = 1) -> None:
        """Waits until the engine has been asked for so many jobs of one name."""
        await self._count(self._came, job, jobs)

    async def departure(self, job: str, jobs: int = 1) -> None:
        """Waits until the engine knows that nobody waits for so many jobs of one name."""
        await self._count(self._went, job, jobs)

    async def _count(self, counts: Counter[str], job: str, jobs: int) -> None:
        while counts[job] < jobs:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        self.release()
        super().close()

    def forwards_with(self, *jobs: str) -> list[dict[str, int]]:
        """Steps of denoising loops in which all of some jobs had rows.

        Each as the steps that its jobs had done, by name; the most of those of one name.
        """
        names = ("unet", "inpaint unet", "prior")
        loops = [f for f in self.counters.trace if f.network.removesuffix(", shallow") in names]
        return [dict(sorted(f.jobs)) for f in loops if {job for job, _ in f.jobs} >= set(jobs)]

    def _submit(self, job: Job) -> None:
        super()._submit(job)
        self.asked.append(job)
        self._came[job.id] += 1
        self._changed.set()

    async def run(self, job: Job) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(super().run(job)) as events:
                async for event in events:
                    yield event
        finally:
            self._went[job.id] += 1
            self._changed.set()

    def _stops(self, job: Job) -> bool:
        name, step, phase = self._stop_at
        return (job.id, job.step) == (name, step) and phase in (None, job.phase.name)

    def _select(self) -> list[Job]:
        jobs = super()._select()
        is_loop = len(jobs[0].phase.timesteps) > 1
        if is_loop and self._stop_at is not None and any(map(self._stops, jobs)):
            self._open.clear()
            self._stop_at = None
            self._events.call_soon_threadsafe(self._stopped.set)
        self._open.wait()
        if self.waits_for_readers:
            for job in self._running:
                while len(job.emit.__self__) and not job.abandoned:
                    time.sleep(0.001)
        return jobs
