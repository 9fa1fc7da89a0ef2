"""Who is let in next: deficit round robin over tenants, in units of denoise cost.

M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round robin", SIGCOMM 1995. As in
FQ-CoDel (RFC 8290), a tenant that has not waited lately is served before those with a backlog.
"""

import itertools
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from services.engine.job import Job

Wanted = Callable[[Job], bool]
Rank = tuple[int, bool]
MOST_ROUNDS = 64
"""Rounds of all tenants that one is passed over at most for what it was charged."""


class Line:
    """Jobs that wait: a line a tenant, in it higher priorities first, then first come.

    A job that was at work on a replica that is gone has waited before: it goes first.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[Rank, int, Job]]] = {}
        self._deficits: dict[str, float] = {}
        self._ring: deque[str] = deque()
        self._arrivals = itertools.count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        return (job for line in self._lines.values() for _, _, job in line)

    @property
    def cost(self) -> int:
        """Denoise cost of all that wait."""
        return sum(job.cost for job in self)

    def push(self, job: Job) -> None:
        """Puts a job into its tenant's line."""
        if job.tenant not in self._lines:
            self._lines[job.tenant] = []
            self._deficits[job.tenant] = job.cost
            self._ring.appendleft(job.tenant)
        insort(self._lines[job.tenant], (_rank(job), next(self._arrivals), job))
        self._size += 1

    def head(self) -> Job:
        """The job that is let in next; it stays in the line.

        Raises:
            LookupError: nobody waits.
        """
        if not self._size:
            raise LookupError("nobody waits")
        quantum = max(line[0][2].cost for line in self._lines.values() if line)
        while True:
            tenant = self._ring[0]
            line = self._lines[tenant]
            deficit = self._deficits[tenant]
            if not line and deficit >= 0:  # its turn has come round, and it has nothing
                self._forget(tenant)
                continue
            if line and deficit >= line[0][2].cost:
                return line[0][2]
            self._deficits[tenant] = max(deficit, -MOST_ROUNDS * quantum) + quantum
            self._ring.rotate(-1)

    def pop(self) -> Job:
        """Takes the head out.

        Raises:
            LookupError: nobody waits.
        """
        job = self.head()
        line = self._lines[job.tenant]
        line.pop(0)
        self._size -= 1
        self._deficits[job.tenant] -= job.cost
        if not line:
            # Not forgotten at once: one that comes back with a job at a time would always be new.
            self._deficits[job.tenant] = min(0, self._deficits[job.tenant])
            self._ring.rotate(-1)
        return job

    def charge(self, costs: Mapping[str, float]) -> None:
        """Lets tenants wait for what they have used beside their jobs' own cost.

        Args:
            costs: in the unit of `Job.cost`, by tenant, whether it waits or not; when one comes
                again, it does not come as a new one.
        """
        for tenant, cost in costs.items():
            if tenant not in self._lines:
                self._lines[tenant] = []
                self._deficits[tenant] = 0
                self._ring.append(tenant)
            self._deficits[tenant] -= cost

    def longest(self) -> str:
        """The tenant whose waiting jobs cost most.

        Raises:
            ValueError: nobody waits.
        """
        return max(
            self._lines, key=lambda tenant: sum(job.cost for _, _, job in self._lines[tenant])
        )

    def pop_last(self, tenant: str) -> Job:
        """Takes out the job of a tenant that would wait longest."""
        self._size -= 1
        return self._lines[tenant].pop()[2]

    def take(self) -> list[Job]:
        """Takes out everyone."""
        jobs = list(self)
        self.remove_if_not(lambda job: False)
        return jobs

    def remove_if_not(self, wanted: Wanted) -> None:
        """Drops the jobs that nobody wants any more."""
        for tenant, line in self._lines.items():
            kept = [entry for entry in line if wanted(entry[2])]
            self._size -= len(line) - len(kept)
            self._lines[tenant] = kept

    def ahead(self, job: Job) -> list[Job]:
        """Those of the job's own tenant that are let in before it, or would be if it came now."""
        line = self._lines.get(job.tenant, [])
        places = [place for place, entry in enumerate(line) if entry[2] is job]
        if places:
            return [entry[2] for entry in line[: places[0]]]
        return [entry[2] for entry in line if entry[0] <= _rank(job)]

    def position(self, job: Job) -> int:
        """About how many are let in before a job: other tenants take turns with its own."""
        own = len(self.ahead(job))
        others = (line for tenant, line in self._lines.items() if tenant != job.tenant)
        return own + sum(min(len(line), own) for line in others)

    def _forget(self, tenant: str) -> None:
        self._ring.remove(tenant)
        del self._lines[tenant], self._deficits[tenant]


def _rank(job: Job) -> Rank:
    return -job.priority, job.resume_from is None
