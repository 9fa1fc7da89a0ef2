"""A fair queue: round robin over tenants, so that a long backlog of one delays no other."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by tenant: first in, first out within a tenant, round robin over tenants."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()

    def put(self, tenant: str, item: T) -> None:
        """Append an item to its tenant's; a new tenant comes after all others."""
        self._waiting.setdefault(tenant, deque()).append(item)

    def heads(self) -> Iterator[tuple[str, T]]:
        """Each tenant and its first item, in the order in which they are due."""
        return iter([(tenant, items[0]) for tenant, items in self._waiting.items()])

    def take(self, tenant: str) -> T:
        """Remove and return a tenant's first item; the tenant is due again after all others.

        Raises:
            KeyError: the tenant has none.
        """
        items = self._waiting.pop(tenant)
        first = items.popleft()
        if items:
            self._waiting[tenant] = items
        return first

    def remove(self, tenant: str, item: T) -> None:
        """Remove an item whose caller no longer waits, if it is still queued."""
        items = self._waiting.get(tenant)
        if items is None or item not in items:
            return
        items.remove(item)
        if not items:
            del self._waiting[tenant]
