"""The quota of what requests hold, images, bytes or pixels, shared fairly by tenants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kandinsky.wire.errors import KandinskyError, Reason

RETRY_AFTER = 1.0
"""Seconds."""


class TenantQuota:
    """Bounds what requests hold, in all and by tenant.

    A tenant holds up to `times_free` times what it leaves free: alone n of n + 1 parts, of several
    each less, so that k of them leave a (1 + k n)th to the next. Dynamic thresholds of shared
    buffers: Choudhury and Hahne 1998, section III.

    Args:
        total: what all requests hold at most.
        times_free: n of the rule above.
        least: what a tenant may hold, where it is free, whatever the rule says.
        unit: the end of the sentence "3 of 8 ...", for refusals.
        retry_after: seconds after which a refused caller may come back.
        on_freed: called after something was given back.
    """

    def __init__(
        self,
        total: int,
        *,
        times_free: int,
        least: int,
        unit: str,
        retry_after: Callable[[], float] = lambda: RETRY_AFTER,
        on_freed: Callable[[], None] = lambda: None,
    ) -> None:
        self._total = total
        self._times_free = times_free
        self._least = least
        self._unit = unit
        self._retry_after = retry_after
        self._on_freed = on_freed
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """What all requests hold."""
        return self._held.total()

    @property
    def most(self) -> int:
        """What a tenant holds at most, where no other holds anything."""
        return max(self._least, self._total * self._times_free // (1 + self._times_free))

    def has_room(self, amount: int) -> bool:
        """Whether so much is free."""
        return self.held + amount <= self._total

    def is_within_share(self, tenant: str, amount: int) -> bool:
        """Whether a tenant may hold so much more."""
        left = self._total - self.held - amount
        return self._held[tenant] + amount <= max(self._least, self._times_free * left)

    def take(self, tenant: str, amount: int) -> None:
        """Count an amount as a tenant's.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back.
        """
        if not self.has_room(amount) or not self.is_within_share(tenant, amount):
            raise KandinskyError(
                Reason.OVERLOADED,
                f"{self.held} of {self._total} {self._unit}, "
                f"{self._held[tenant]} of them this tenant's",
                retry_after=self._retry_after(),
            )
        self._held[tenant] += amount

    def give_back(self, tenant: str, amount: int) -> None:
        """Take an amount off a tenant's account."""
        self._held[tenant] -= amount
        self._held += Counter()  # forgets tenants that hold nothing
        self._on_freed()

    @contextmanager
    def lease(self, tenant: str, amount: int) -> Iterator[Lease]:
        """Hold an amount while the block runs.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back.
        """
        lease = Lease(self, tenant)
        lease.grow(amount)
        try:
            yield lease
        finally:
            lease.shrink(0)


class Lease:
    """What one request holds of a quota.

    Args:
        quota: of which it holds something.
        tenant: on whose behalf.
        amount: what is counted as the tenant's already.
    """

    def __init__(self, quota: TenantQuota, tenant: str, amount: int = 0) -> None:
        self._quota = quota
        self._tenant = tenant
        self.amount = amount

    def grow(self, amount: int) -> None:
        """Hold this much rather than less, or all that a tenant can ever hold.

        Raises:
            KandinskyError: OVERLOADED, with a time to come back; the lease is as before.
        """
        amount = min(amount, self._quota.most)
        if amount > self.amount:
            self._quota.take(self._tenant, amount - self.amount)
            self.amount = amount

    def shrink(self, amount: int) -> None:
        """Give back what exceeds an amount."""
        if amount < self.amount:
            freed, self.amount = self.amount - amount, amount
            self._quota.give_back(self._tenant, freed)
