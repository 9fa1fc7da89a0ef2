"""Which calls read their request's message now.

How large a message is shows only when it has been read, so the number of those that are being
read is bounded. A message that arrives at once frees its slot at once; one that trickles in loses
its slot when others wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from kandinsky.wire.errors import KandinskyError, Reason

SLOTS = 8
"""Messages that are being read at once; each may be 64 MiB, twice while it is copied."""
SLOTS_OF_A_TENANT = 4
FASTEST = 8 * 2**20
"""Bytes a second of each slot of a tenant: after a message its slot stays taken for as long as the
message takes at this rate, so that a tenant's largest messages leave the machine to others."""
PATIENCE = 5.0
"""Seconds that a message may take while others wait for its slot."""
RETRY_AFTER = 1.0
"""Seconds."""


@dataclass
class Slot:
    """What a call holds while it reads."""

    size: int = 0
    """Bytes of the message, once it has been read."""


class ReadSlots:
    """Lets a few calls read at once, in the order of their arrival.

    Args:
        seconds: how long a message may take to arrive.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free = asyncio.Semaphore(SLOTS)
        self._free_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._reading: dict[asyncio.Timeout, float] = {}
        """When each read began, the earliest first; without those whose time was cut."""

    @asynccontextmanager
    async def lease(self, tenant: str) -> AsyncIterator[Slot]:
        """Hold a slot while the block reads; the block sets how much it has read.

        Raises:
            KandinskyError: DEADLINE_EXCEEDED or OVERLOADED: the message does not arrive in time.
        """
        free = self._free_of.setdefault(tenant, asyncio.Semaphore(SLOTS_OF_A_TENANT))
        slot, loop = Slot(), asyncio.get_running_loop()
        await free.acquire()
        try:
            if self._free.locked():
                self._cut_the_earliest()
            async with self._free:
                begun = loop.time()
                try:
                    async with asyncio.timeout(self._seconds) as timer:
                        self._reading[timer] = begun
                        try:
                            yield slot
                        finally:
                            self._reading.pop(timer, None)
                except TimeoutError as error:
                    raise self._too_slow(timer, begun) from error
        finally:
            if slot.size:
                loop.call_later(slot.size / FASTEST, free.release)
            else:
                free.release()

    def _cut_the_earliest(self) -> None:
        if self._reading:
            timer, begun = next(iter(self._reading.items()))
            del self._reading[timer]
            now = asyncio.get_running_loop().time()
            timer.reschedule(max(now, begun + min(PATIENCE, self._seconds)))

    def _too_slow(self, timer: asyncio.Timeout, begun: float) -> KandinskyError:
        when = timer.when()
        if when is not None and when < begun + self._seconds:
            return KandinskyError(
                Reason.OVERLOADED,
                "the request's message arrives too slowly while others wait",
                retry_after=RETRY_AFTER,
            )
        return KandinskyError(
            Reason.DEADLINE_EXCEEDED,
            f"the request's message did not arrive in {self._seconds:g} s",
        )
