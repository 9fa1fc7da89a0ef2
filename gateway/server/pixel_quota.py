"""The quota of input pixels that are decoded at once, and the queue of those that wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.requests.input_images import REQUEST_PIXELS
from gateway.server.fair_queue import FairQueue
from gateway.server.tenant_quota import Lease, TenantQuota
from kandinsky.wire.errors import KandinskyError, Reason

TIMES_FREE = 1
"""A tenant alone holds half."""
TENANT_BACKLOG = 4
"""Times its most that a tenant may have waiting; what goes beyond is refused at once."""


class PixelQuota:
    """Leases pixels to requests before they decode; those that find no room wait, fairly queued.

    A request leases all that it decodes at once, so that no two wait for each other. The tenant
    at the head of the queue stays there until there is room: a large request is not overtaken for
    ever.

    Args:
        pixels: decoded at once by all requests.
        wait_seconds: how long a request waits for room.
    """

    def __init__(self, pixels: int, wait_seconds: float) -> None:
        self._quota = TenantQuota(
            pixels,
            times_free=TIMES_FREE,
            least=REQUEST_PIXELS,
            unit="pixels of input images are decoded",
            on_freed=self._grant,
        )
        self._wait_seconds = wait_seconds
        self._backlog: Counter[str] = Counter()
        self._queue: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    @property
    def held(self) -> int:
        """Pixels that requests hold."""
        return self._quota.held

    @asynccontextmanager
    async def lease(self, tenant: str, pixels: int) -> AsyncIterator[Lease]:
        """Hold pixels while the block runs, or fewer once the block has shrunk the lease.

        Args:
            tenant: on whose behalf.
            pixels: at most REQUEST_PIXELS.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back, where the tenant has too many
                waiting, or no room was found in time.
        """
        await self._acquire(tenant, pixels)
        lease = Lease(self._quota, tenant, pixels)
        try:
            yield lease
        finally:
            lease.shrink(0)

    async def _acquire(self, tenant: str, pixels: int) -> None:
        if self._backlog[tenant] + pixels > TENANT_BACKLOG * self._quota.most:
            raise self._overloaded(f"{self._backlog[tenant]} of this tenant's wait already")
        granted = asyncio.get_running_loop().create_future()
        item = (pixels, granted)
        self._backlog[tenant] += pixels
        self._queue.put(tenant, item)
        self._grant()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await granted
        except (TimeoutError, asyncio.CancelledError) as error:
            self._queue.remove(tenant, item)
            if granted.done() and not granted.cancelled():  # in the same pass of the loop
                self._quota.give_back(tenant, pixels)
            self._grant()
            if isinstance(error, TimeoutError):
                raise self._overloaded(f"no room within {self._wait_seconds:g} s") from error
            raise
        finally:
            self._backlog[tenant] -= pixels
            self._backlog += Counter()

    def _grant(self) -> None:
        """Grant leases that fit, in the queue's order, past tenants that hold their share."""
        while (tenant := self._next()) is not None:
            pixels, granted = self._queue.take(tenant)
            if not granted.cancelled():
                self._quota.take(tenant, pixels)
                granted.set_result(None)

    def _next(self) -> str | None:
        for tenant, (pixels, _) in self._queue.heads():
            if self._quota.is_within_share(tenant, pixels):
                return tenant if self._quota.has_room(pixels) else None
        return None

    def _overloaded(self, why: str) -> KandinskyError:
        return KandinskyError(
            Reason.OVERLOADED,
            f"too many pixels of input images are decoded at once: {why}",
            retry_after=self._wait_seconds,
        )
