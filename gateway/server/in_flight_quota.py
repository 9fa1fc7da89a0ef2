"""The places of requests in flight: how many there are, who holds them, when the next are free."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from kandinsky.wire.errors import KandinskyError, Reason

TIMES_FREE = 3
"""A tenant may hold so many times what it leaves free: alone three quarters of all places, of
several each less, so that n of them leave a (1 + 3n)th to the next. Dynamic thresholds of shared
buffers: Choudhury and Hahne 1998, section III."""
REMEMBERED = 64
"""Ended requests from which the drain rate is measured."""
LEAST_RETRY, MOST_RETRY, UNMEASURED_RETRY = 0.1, 60.0, 1.0
"""Seconds: bounds of what callers who find no place are told, and what they are told at first."""


class Places:
    """Lets requests take places, up to a bound.

    Args:
        count: of all places.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = 0
        self._taken_by: Counter[str] = Counter()
        self._freed: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)

    @property
    def taken(self) -> int:
        """Places that requests hold."""
        return self._taken

    @contextmanager
    def hold(self, tenant: str) -> Iterator[Hold]:
        """Holds one place while the block runs, or more where the block asks for them.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back.
        """
        hold = Hold(self, tenant)
        hold.grow(1)
        try:
            yield hold
        finally:
            self._taken -= hold.places
            self._taken_by[tenant] -= hold.places
            self._taken_by += Counter()  # forgets tenants that hold nothing

    def take(self, tenant: str, places: int) -> None:
        """Counts places as a tenant's.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back.
        """
        free = self._count - self._taken - places
        own = self._taken_by[tenant] + places
        if free < 0 or own > max(1, TIMES_FREE * free):
            raise self._overloaded(
                f"{self._taken} of {self._count} images are in flight, "
                f"{self._taken_by[tenant]} of them this tenant's"
            )
        self._taken += places
        self._taken_by[tenant] += places

    def most(self) -> int:
        """Places that one request can hold at all."""
        return max(1, self._count * TIMES_FREE // (1 + TIMES_FREE))

    def note_done(self, places: int) -> None:
        """Counts images that were made, for the drain rate."""
        self._freed.append((time.monotonic(), places))

    def _overloaded(self, message: str) -> KandinskyError:
        return KandinskyError(Reason.OVERLOADED, message, retry_after=self._retry_after())

    def _retry_after(self) -> float:
        """When half of what is in flight will be done, at the rate of the latest requests."""
        if len(self._freed) < 2:
            return UNMEASURED_RETRY
        seconds = time.monotonic() - self._freed[0][0]
        done = sum(places for _, places in self._freed) - self._freed[0][1]
        return min(max(self._taken / 2 * seconds / done, LEAST_RETRY), MOST_RETRY)


class Hold:
    """What one request holds."""

    def __init__(self, of: Places, tenant: str) -> None:
        self._of = of
        self._tenant = tenant
        self.places = 0

    def grow(self, places: int) -> None:
        """Holds this many places rather than fewer; no request needs more than it can ever get.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back; it holds what it held.
        """
        places = min(places, self._of.most())
        if places > self.places:
            self._of.take(self._tenant, places - self.places)
            self.places = places

    def done(self) -> None:
        """Says that the request's images were made."""
        self._of.note_done(self.places)
