"""The quota of images in flight, and when the next ones are expected to be free."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.server.tenant_quota import Lease, TenantQuota

TIMES_FREE = 3
"""A tenant alone holds three quarters."""
REMEMBERED = 64
"""Ended requests from which the drain rate is measured."""
LEAST_RETRY, MOST_RETRY, UNMEASURED_RETRY = 0.1, 60.0, 1.0
"""Seconds: bounds of the time after which a refused caller may come back, and that time until two
requests have ended."""


class InFlightQuota:
    """Leases images in flight to requests.

    Args:
        images: of all requests.
    """

    def __init__(self, images: int) -> None:
        self._quota = TenantQuota(
            images,
            times_free=TIMES_FREE,
            least=1,
            unit="images are in flight",
            retry_after=self._retry_after,
        )
        self._ended: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        """When requests ended, and their images."""

    @property
    def held(self) -> int:
        """Images in flight."""
        return self._quota.held

    @contextmanager
    def lease(self, tenant: str) -> Iterator[InFlightLease]:
        """Hold one image while the block runs, or more where the block grows the lease.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back.
        """
        lease = InFlightLease(self._quota, tenant, self._ended)
        lease.grow(1)
        try:
            yield lease
        finally:
            lease.shrink(0)

    def _retry_after(self) -> float:
        """When half of what is in flight will have ended, at the rate of the latest requests."""
        if len(self._ended) < 2:
            return UNMEASURED_RETRY
        seconds = time.monotonic() - self._ended[0][0]
        ended = sum(images for _, images in self._ended) - self._ended[0][1]
        return min(max(self.held / 2 * seconds / ended, LEAST_RETRY), MOST_RETRY)


class InFlightLease(Lease):
    """The images that one request has in flight."""

    def __init__(self, quota: TenantQuota, tenant: str, ended: deque[tuple[float, int]]) -> None:
        super().__init__(quota, tenant)
        self._ended = ended

    def note_ended(self) -> None:
        """Count the request's images as made, for the drain rate."""
        self._ended.append((time.monotonic(), self.amount))
