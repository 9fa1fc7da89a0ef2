"""Where calls that could share forwards go together."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

SLACK = 2
"""Calls by which a home may be ahead of the replica with the fewest."""
FORGOTTEN_AFTER = 60.0
"""Seconds without a call of a kind."""
MOST_KINDS = 64


@dataclass
class Home:
    """The replica of one kind of call."""

    replica: Hashable
    used: float
    """When a call of the kind last came; seconds."""


class Homes:
    """One replica for each kind of call, while its load allows.

    Calls go to their kind's home while it has at most SLACK calls more than the replica with the
    fewest, and then to that one. A kind whose home is so full moves there where fewer kinds are at
    home, so that in time kinds are spread over the replicas, and each replica's forwards are of few
    kinds.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._homes: OrderedDict[str, Home] = OrderedDict()
        """By kind, the latest used last."""

    def choose(self, kind: str, loads: Mapping[Hashable, int]) -> Hashable:
        """The replica that takes the next call of a kind.

        Args:
            kind: what calls that could share forwards have in common.
            loads: calls under way, by replica; one at the least.
        """
        self._forget()
        least = min(loads, key=lambda replica: (loads[replica], self._kinds_at(replica)))
        home = self._homes.get(kind)
        if home is None or home.replica not in loads:
            home = Home(least, 0.0)
        is_full = loads[home.replica] > loads[least] + SLACK
        if is_full and self._kinds_at(least) + 1 < self._kinds_at(home.replica):
            home = Home(least, 0.0)
        home.used = self._clock()
        self._homes[kind] = home
        self._homes.move_to_end(kind)
        return least if is_full else home.replica

    def _kinds_at(self, replica: Hashable) -> int:
        return sum(home.replica == replica for home in self._homes.values())

    def _forget(self) -> None:
        oldest = self._clock() - FORGOTTEN_AFTER
        while self._homes:
            kind, home = next(iter(self._homes.items()))
            if len(self._homes) <= MOST_KINDS and home.used >= oldest:
                return
            del self._homes[kind]
