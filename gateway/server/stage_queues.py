"""How long jobs wait for room at the stages, as the stages tell those that wait now."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class StageQueues:
    """The stages' queues, as this gateway's own jobs see them.

    A newcomer to a lane (a stage, a tenant, a priority) comes after all that wait in it, so the
    wait that a stage names to the latest of them is the least that a newcomer can expect. Where a
    later one has been let in, or none waits, no wait is expected: expectations end with their jobs.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: dict[Hashable, _Lane] = {}

    def wait(self, lane: Hashable) -> float:
        """Seconds that a newcomer to a lane is expected to wait, at the least."""
        if lane not in self._lanes:
            return 0.0
        return max(0.0, self._lanes[lane].next_let_in() - self._clock())

    def queued(self, lane: Hashable, arrival: int, seconds: float) -> None:
        """Take in the wait that a stage names to a job.

        Args:
            lane: where it waits.
            arrival: its number; later jobs have higher ones.
            seconds: that it is expected to wait from now on.
        """
        self._lanes.setdefault(lane, _Lane()).waiting[arrival] = self._clock() + seconds

    def let_in(self, lane: Hashable, arrival: int) -> None:
        """Take in that a job waits no more because it is at work."""
        if lane in self._lanes:
            self._lanes[lane].latest_let_in = max(self._lanes[lane].latest_let_in, arrival)
            self.left(lane, arrival)

    def left(self, lane: Hashable, arrival: int) -> None:
        """Take in that a job waits no more, for whatever reason."""
        if lane in self._lanes:
            self._lanes[lane].waiting.pop(arrival, None)
            if not self._lanes[lane].waiting:
                del self._lanes[lane]


class _Lane:
    """Jobs that wait."""

    def __init__(self) -> None:
        self.waiting: dict[int, float] = {}
        """When each expects to be let in, on the clock, by its arrival."""
        self.latest_let_in = 0
        """The latest arrival of those that were let in meanwhile."""

    def next_let_in(self) -> float:
        """When the latest to arrive expects to be let in; 0 if one that came later has been."""
        latest = max(self.waiting)
        return self.waiting[latest] if latest > self.latest_let_in else 0.0
