"""The next job to admit: deficit round robin over tenants, in units of denoise cost.

M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round robin", SIGCOMM 1995. As in
FQ-CoDel (RFC 8290), a tenant that has not waited lately is served before those with a backlog.
"""

import itertools
from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping

from services.engine.job import Job

Predicate = Callable[[Job], bool]
Rank = tuple[int, int, float]
MOST_ROUNDS = 64
"""Rounds of all tenants that one is passed over at most for what it was charged."""


class FairQueue:
    """Jobs that wait: a queue a tenant, higher priorities first, then first come.

    Jobs that were at work have waited before: in their priority those that are paused go first,
    then those of a replica that is gone.
    """

    def __init__(self) -> None:
        self._queues: dict[str, list[tuple[Rank, int, Job]]] = {}
        self._deficits: dict[str, float] = {}
        self._ring: deque[str] = deque()
        self._arrivals = itertools.count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Job]:
        return (job for queue in self._queues.values() for _, _, job in queue)

    @property
    def cost(self) -> float:
        """Denoise cost of all that wait."""
        return sum(job.cost for job in self)

    def push(self, job: Job) -> None:
        """Puts a job into its tenant's queue."""
        if job.tenant not in self._queues:
            self._queues[job.tenant] = []
            self._deficits[job.tenant] = job.cost
            self._ring.appendleft(job.tenant)
        insort(self._queues[job.tenant], (_rank(job), next(self._arrivals), job))
        self._size += 1

    def head(self) -> Job:
        """The job that is let in next; it stays in the queue.

        Raises:
            LookupError: nobody waits.
        """
        if not self._size:
            raise LookupError("nobody waits")
        quantum = max(queue[0][2].cost for queue in self._queues.values() if queue)
        while True:
            tenant = self._ring[0]
            queue = self._queues[tenant]
            deficit = self._deficits[tenant]
            if not queue and deficit >= 0:  # its turn has come round, and it has nothing
                self._forget(tenant)
                continue
            if queue and deficit >= queue[0][2].cost:
                return queue[0][2]
            self._deficits[tenant] = max(deficit, -MOST_ROUNDS * quantum) + quantum
            self._ring.rotate(-1)

    def pop(self) -> Job:
        """Takes the head out.

        Raises:
            LookupError: nobody waits.
        """
        job = self.head()
        queue = self._queues[job.tenant]
        queue.pop(0)
        self._size -= 1
        self._deficits[job.tenant] -= job.cost
        if not queue:
            # Not forgotten at once: one that comes back with a job at a time would always be new.
            self._deficits[job.tenant] = min(0, self._deficits[job.tenant])
            self._ring.rotate(-1)
        return job

    def may_exchange(self, tenant: str) -> bool:
        """Whether a tenant has used no more than its share, or nobody else waits."""
        return self._deficits.get(tenant, 0) >= 0 or not self._others_wait(tenant)

    def exchange(self, job: Job, paused: Collection[Job]) -> None:
        """Takes out a job before its turn, and puts in running ones of its tenant.

        Its tenant pays for the job, and gets back what it has paid for the rest of the others, so
        that its share stays what it is. While nobody else waits, nothing is owed.

        Args:
            job: in the queue.
            paused: in its place; each costs what is left of it.
        """
        queue = self._queues[job.tenant]
        self._queues[job.tenant] = [entry for entry in queue if entry[2] is not job]
        self._size -= 1
        for each in paused:
            self.push(each)
        deficit = self._deficits[job.tenant] + sum(each.cost for each in paused) - job.cost
        if not self._others_wait(job.tenant):
            deficit = max(deficit, 0)
        self._deficits[job.tenant] = deficit

    def charge(self, costs: Mapping[str, float]) -> None:
        """Lets tenants wait for what they have used beside their jobs' own cost.

        Args:
            costs: in the unit of `Job.cost`, by tenant, whether it waits or not; when one comes
                again, it does not come as a new one.
        """
        for tenant, cost in costs.items():
            if tenant not in self._queues:
                self._queues[tenant] = []
                self._deficits[tenant] = 0
                self._ring.append(tenant)
            self._deficits[tenant] -= cost

    def longest(self) -> str:
        """The tenant whose waiting jobs cost most.

        Raises:
            ValueError: nobody waits.
        """
        return max(
            self._queues, key=lambda tenant: sum(job.cost for _, _, job in self._queues[tenant])
        )

    def pop_last(self, tenant: str) -> Job | None:
        """Takes out the job of a tenant that would wait longest; None where all are paused."""
        queue = self._queues[tenant]
        for place in reversed(range(len(queue))):
            if not queue[place][2].is_paused:
                self._size -= 1
                return queue.pop(place)[2]
        return None

    def pop_all(self) -> list[Job]:
        """Takes out everyone."""
        jobs = list(self)
        self.keep_only(lambda job: False)
        return jobs

    def keep_only(self, keep: Predicate) -> None:
        """Drop the jobs for which `keep` is false."""
        for tenant, queue in self._queues.items():
            kept = [entry for entry in queue if keep(entry[2])]
            self._size -= len(queue) - len(kept)
            self._queues[tenant] = kept

    def ahead(self, job: Job) -> list[Job]:
        """Those of the job's own tenant that are let in before it, or would be if it came now."""
        queue = self._queues.get(job.tenant, [])
        places = [place for place, entry in enumerate(queue) if entry[2] is job]
        if places:
            return [entry[2] for entry in queue[: places[0]]]
        return [entry[2] for entry in queue if entry[0] <= _rank(job)]

    def position(self, job: Job) -> int:
        """About how many are let in before a job: other tenants take turns with its own."""
        own = len(self.ahead(job))
        others = (queue for tenant, queue in self._queues.items() if tenant != job.tenant)
        return own + sum(min(len(queue), own) for queue in others)

    def _others_wait(self, tenant: str) -> bool:
        return self._size > len(self._queues.get(tenant, []))

    def _forget(self, tenant: str) -> None:
        self._ring.remove(tenant)
        del self._queues[tenant], self._deficits[tenant]


def _rank(job: Job) -> Rank:
    standing = 0 if job.is_paused else 1 if job.resume_from is not None else 2
    return -job.priority, standing, job.arrived
