"""Events of one job on their way to its caller, bounded however slowly they are read."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Hashable

from services.engine.events import Event, Progress
from services.engine.leaving import Leaving, leave


class Mailbox:
    """Events of one job, from the engine's thread to an event loop.

    Of each kind of event the newest alone waits, at the place of its coming: a slow reader misses
    states that are past. A phase's progress is a kind of its own, so that each phase's end is
    reported. A result or an error is never replaced; it comes last.

    Args:
        loop: on which the events are read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: OrderedDict[Hashable, Event | Leaving | Exception] = OrderedDict()
        self._lock = threading.Lock()
        self._came = asyncio.Event()
        self._is_waited_for = False

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event | Exception) -> None:
        """Adds an event, in place of the last one of its kind; from any thread.

        Its tensors begin to leave the device at once, behind the work that this thread has given.
        """
        kind, leaving = _kind(event), leave(event)
        with self._lock:
            self._events.pop(kind, None)
            self._events[kind] = leaving
            wakes, self._is_waited_for = self._is_waited_for, False
        if wakes:
            try:
                self._loop.call_soon_threadsafe(self._came.set)
            except RuntimeError:
                if not self._loop.is_closed():  # else nobody is left to read
                    raise

    async def get(self) -> Event | Leaving | Exception:
        """The next event, whose tensors may still be leaving the device; waits for one.

        Has one reader at a time.
        """
        while True:
            with self._lock:
                if self._events:
                    return self._events.popitem(last=False)[1]
                self._came.clear()
                self._is_waited_for = True
            await self._came.wait()


def _kind(event: Event | Exception) -> Hashable:
    if isinstance(event, Progress):
        return Progress, event.phase
    return (type(event),)
