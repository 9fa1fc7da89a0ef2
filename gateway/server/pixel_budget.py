"""A bound on the input pixels that are decoded at once, for the whole gateway and a tenant."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.inputs import REQUEST_PIXELS
from gateway.server.fair_queue import FairQueue
from kandinsky.wire.errors import KandinskyError, Reason

TENANT_SHARE = 0.5
"""Share of all pixels that one tenant may hold."""
TENANT_BACKLOG = 4
"""Times its share that a tenant may have waiting; what goes beyond is refused at once."""


class PixelLease:
    """Pixels that one request holds."""

    def __init__(self, budget: PixelBudget, tenant: str, pixels: int) -> None:
        self._budget = budget
        self._tenant = tenant
        self.pixels = pixels

    def shrink(self, pixels: int) -> None:
        """Give back what exceeds `pixels`, because the request has dropped it."""
        if pixels < self.pixels:
            self._budget.give_back(self._tenant, self.pixels - pixels)
            self.pixels = pixels


class PixelBudget:
    """Leases pixels to requests before they decode; those that find no room wait in fair turns.

    A request leases all that it decodes at once, so that no two wait for each other. The tenant
    whose turn it is keeps it until there is room: a large request is not overtaken for ever.

    Args:
        pixels: decoded at once by all requests; one tenant holds up to half.
        wait_seconds: how long a request waits for room.
    """

    def __init__(self, pixels: int, wait_seconds: float) -> None:
        self._pixels = pixels
        self._of_a_tenant = max(REQUEST_PIXELS, round(pixels * TENANT_SHARE))
        self._wait_seconds = wait_seconds
        self._held: Counter[str] = Counter()
        self._backlog: Counter[str] = Counter()
        self._queue: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    @property
    def held(self) -> int:
        """Pixels that requests hold."""
        return self._held.total()

    @asynccontextmanager
    async def lease(self, tenant: str, pixels: int) -> AsyncIterator[PixelLease]:
        """Hold pixels while the block runs, or fewer once the block has dropped some.

        Args:
            tenant: on whose behalf.
            pixels: at most REQUEST_PIXELS.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back, where the tenant has too many
                waiting, or no room was found in time.
        """
        await self._acquire(tenant, pixels)
        lease = PixelLease(self, tenant, pixels)
        try:
            yield lease
        finally:
            lease.shrink(0)

    def give_back(self, tenant: str, pixels: int) -> None:
        """Take pixels off a tenant's account and let in who waits for them."""
        self._held[tenant] -= pixels
        self._held += Counter()  # forgets tenants that hold nothing
        self._grant()

    async def _acquire(self, tenant: str, pixels: int) -> None:
        if self._backlog[tenant] + pixels > TENANT_BACKLOG * self._of_a_tenant:
            raise self._overloaded(f"{self._backlog[tenant]} of this tenant's wait already")
        turn = asyncio.get_running_loop().create_future()
        item = (pixels, turn)
        self._backlog[tenant] += pixels
        self._queue.put(tenant, item)
        self._grant()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            self._queue.remove(tenant, item)
            if turn.done() and not turn.cancelled():  # granted in the same pass of the loop
                self.give_back(tenant, pixels)
            self._grant()
            if isinstance(error, TimeoutError):
                raise self._overloaded(f"no room within {self._wait_seconds:g} s") from error
            raise
        finally:
            self._backlog[tenant] -= pixels
            self._backlog += Counter()

    def _grant(self) -> None:
        """Let in who fits, by turns; a tenant at its own bound loses no turn of others."""
        while (found := self._next()) is not None:
            pixels, turn = self._queue.take(found)
            if not turn.cancelled():
                self._held[found] += pixels
                turn.set_result(None)

    def _next(self) -> str | None:
        for tenant, (pixels, _) in self._queue.heads():
            if self._held[tenant] + pixels <= self._of_a_tenant:
                return tenant if self.held + pixels <= self._pixels else None
        return None

    def _overloaded(self, why: str) -> KandinskyError:
        return KandinskyError(
            Reason.OVERLOADED,
            f"too many pixels of input images are decoded at once: {why}",
            retry_after=self._wait_seconds,
        )
