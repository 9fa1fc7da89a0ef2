"""The group that takes the next step: fair sharing of the device among running jobs.

Start-time fair queueing (P. Goyal et al., SIGCOMM 1996) with one unit of weight a job: a group's
virtual time grows by what its step costs each of its jobs, and the group that is furthest behind is
next. So jobs of large images get as much of the device as those of small ones, and no more.
"""

from collections.abc import Collection

from services.engine.group import GroupKey


class FairShare:
    """The virtual times of the groups that have running jobs."""

    def __init__(self) -> None:
        self._times: dict[GroupKey, float] = {}
        self._served: dict[GroupKey, int] = {}
        self._now = 0.0
        self._steps = 0

    def next(self, groups: Collection[GroupKey]) -> GroupKey:
        """The group that is furthest behind; a new one starts where the others are.

        Args:
            groups: those with running jobs, at least one; what is not named is forgotten.
        """
        self._times = {key: self._times.get(key, self._now) for key in groups}
        self._served = {key: self._served.get(key, -1) for key in groups}
        chosen = min(groups, key=lambda key: (self._times[key], self._served[key]))
        self._now = self._times[chosen]
        return chosen

    def record(self, group: GroupKey, cost: float, jobs: int) -> None:
        """Record a group's step.

        Args:
            group: that took it.
            cost: rows times latent area.
            jobs: that had rows in it.
        """
        self._steps += 1
        self._served[group] = self._steps
        self._times[group] = self._times.get(group, self._now) + cost / jobs
