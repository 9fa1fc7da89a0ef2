"""How long jobs wait for room at the stages, as the stages report to those that wait now."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class StageQueues:
    """The stages' queues, as this gateway's own jobs see them.

    A new job in a lane (a stage, a tenant, a priority) comes after all that wait in it, so the
    wait that a stage reports to the latest of them is the least that a new job can expect. Where a
    later one has been admitted, or none waits, no wait is expected: it ends with its job.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: dict[Hashable, _Lane] = {}

    def wait(self, lane: Hashable) -> float:
        """Seconds that a new job in a lane is expected to wait, at the least."""
        if lane not in self._lanes:
            return 0.0
        return max(0.0, self._lanes[lane].next_admission() - self._clock())

    def queued(self, lane: Hashable, arrival: int, seconds: float) -> None:
        """Note the wait that a stage reports to a job.

        Args:
            lane: where it waits.
            arrival: its number; later jobs have higher ones.
            seconds: how long it is expected to wait from now on.
        """
        self._lanes.setdefault(lane, _Lane()).waiting[arrival] = self._clock() + seconds

    def admitted(self, lane: Hashable, arrival: int) -> None:
        """Note that a job waits no longer because it is at work."""
        if lane in self._lanes:
            self._lanes[lane].latest_admitted = max(self._lanes[lane].latest_admitted, arrival)
            self.left(lane, arrival)

    def left(self, lane: Hashable, arrival: int) -> None:
        """Note that a job waits no longer, for whatever reason."""
        if lane in self._lanes:
            self._lanes[lane].waiting.pop(arrival, None)
            if not self._lanes[lane].waiting:
                del self._lanes[lane]


class _Lane:
    """Jobs that wait."""

    def __init__(self) -> None:
        self.waiting: dict[int, float] = {}
        """When each expects to be admitted, on the clock, by its arrival."""
        self.latest_admitted = 0
        """The latest arrival of those that were admitted meanwhile."""

    def next_admission(self) -> float:
        """When the latest to arrive expects to be admitted; 0 if a later one has been."""
        latest = max(self.waiting)
        return self.waiting[latest] if latest > self.latest_admitted else 0.0
