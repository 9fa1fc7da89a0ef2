"""How many bytes of requests are at work, in all and for each tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kandinsky.wire.errors import KandinskyError, Reason

TENANT_SHARE = 0.75
"""Share of the quota that one tenant may hold."""
RETRY_AFTER = 1.0
"""Seconds."""


class ByteQuota:
    """Bounds bytes that requests hold.

    Args:
        most: of all requests.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_a_tenant = int(most * TENANT_SHARE)
        self._held = 0
        self._held_by: Counter[str] = Counter()

    @contextmanager
    def hold(self, tenant: str, size: int) -> Iterator[None]:
        """Counts `size` bytes as a tenant's while the block runs.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back.
        """
        if self._held + size > self._most:
            raise _overloaded(f"requests of {self._held} bytes are at work, {self._most} at most")
        own = self._held_by[tenant]
        if own + size > self._of_a_tenant:
            raise _overloaded(
                f"requests of {own} bytes of this tenant are at work, {self._of_a_tenant} at most"
            )
        self._held += size
        self._held_by[tenant] += size
        try:
            yield
        finally:
            self._held -= size
            self._held_by[tenant] -= size
            self._held_by += Counter()  # forgets tenants that hold nothing


def _overloaded(message: str) -> KandinskyError:
    return KandinskyError(Reason.OVERLOADED, message, retry_after=RETRY_AFTER)
