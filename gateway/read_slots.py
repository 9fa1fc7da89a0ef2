"""Who may read its request's message now.

How large a message is shows only when it has been read, so the number of those that are being
read is bounded. One that arrives at once leaves its slot at once; one that trickles in makes way
when others wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from kandinsky.wire.errors import KandinskyError, Reason

SLOTS = 8
"""Messages that are being read at once; each may be 64 MiB, twice while it is copied."""
SLOTS_OF_A_TENANT = 4
PATIENCE = 5.0
"""Seconds that a message may take while others wait for its slot."""
RETRY_AFTER = 1.0
"""Seconds."""


class ReadSlots:
    """Lets a few calls read at once, in the order in which they came.

    Args:
        seconds: how long a message may take to arrive.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free = asyncio.Semaphore(SLOTS)
        self._free_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._reading: dict[asyncio.Timeout, float] = {}
        """When each began, the first ones first; those asked to make way are left out."""

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """Holds a slot while the block reads.

        Raises:
            KandinskyError: DEADLINE_EXCEEDED or OVERLOADED: the message does not arrive in time.
        """
        free = self._free_of.setdefault(tenant, asyncio.Semaphore(SLOTS_OF_A_TENANT))
        async with free:
            if self._free.locked():
                self._ask_the_first_to_make_way()
            async with self._free:
                begun = asyncio.get_running_loop().time()
                try:
                    async with asyncio.timeout(self._seconds) as timer:
                        self._reading[timer] = begun
                        try:
                            yield
                        finally:
                            self._reading.pop(timer, None)
                except TimeoutError as error:
                    raise self._too_slow(timer, begun) from error

    def _ask_the_first_to_make_way(self) -> None:
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
