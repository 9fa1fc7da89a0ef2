"""The image codec pool: threads that decode and encode image files, off the event loop.

Three kinds of work share the threads, each with a fair queue over tenants. Encoding a result goes
first, then checking a request, then decoding: a request that decodes much delays neither results
nor requests that decode nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any, TypeVar

from gateway.server.fair_queue import FairQueue

T = TypeVar("T")


class Work(IntEnum):
    """Kinds of work; the lowest goes first."""

    ENCODE = 0
    """Encodes a result: milliseconds."""
    CHECK = 1
    """Reads a request without decoding its images: milliseconds."""
    DECODE = 2
    """Decodes or resizes one input image: up to a second."""


class ImageCodecPool:
    """Runs units of image work on a few threads, fairly over tenants.

    Args:
        threads: how many; where there are several, decoding leaves one to other work.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="image-codec")
        self._idle = threads
        self._idle_for_decode = max(1, threads - 1)
        self._queues: dict[Work, FairQueue[asyncio.Future[None]]] = {
            work: FairQueue() for work in Work
        }

    async def run(self, work: Work, tenant: str, function: Callable[..., T], *args: Any) -> T:
        """Call a function on one of the threads, in the order of the fair queue.

        Where the caller is cancelled while the function runs, this returns when the function has
        ended: what it holds is the caller's until then.
        """
        granted = asyncio.get_running_loop().create_future()
        self._queues[work].put(tenant, granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            self._queues[work].remove(tenant, granted)
            if granted.done() and not granted.cancelled():  # in the same pass of the loop
                self._release(work)
            raise
        try:
            return await self._ended(function, *args)
        finally:
            self._release(work)

    def close(self) -> None:
        """End the threads once the units under way have ended."""
        self._executor.shutdown()

    async def _ended(self, function: Callable[..., T], *args: Any) -> T:
        unit = asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        cancelled: asyncio.CancelledError | None = None
        while not unit.done():
            try:
                await asyncio.wait([unit])
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            if cancelled is not None:
                unit.exception()  # retrieved, so that it is not logged as lost
                raise cancelled
            return unit.result()
        finally:
            del unit, cancelled  # else the error, its frames and this one hold each other

    def _grant(self) -> None:
        """Give idle threads to the units at the heads of the queues."""
        for work, queue in self._queues.items():
            while self._has_thread(work) and (head := next(queue.heads(), None)):
                granted = queue.take(head[0])
                if not granted.cancelled():
                    granted.set_result(None)
                    self._idle -= 1
                    self._idle_for_decode -= work is Work.DECODE

    def _has_thread(self, work: Work) -> bool:
        return self._idle > 0 and (work is not Work.DECODE or self._idle_for_decode > 0)

    def _release(self, work: Work) -> None:
        self._idle += 1
        self._idle_for_decode += work is Work.DECODE
        self._grant()
