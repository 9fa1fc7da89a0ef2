"""How large a forward may be: as large as its group, until the device's memory runs out."""

import logging
import math
from collections.abc import Iterable, Sequence

import torch

from services.engine.job import Job

logger = logging.getLogger(__name__)

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Stands in the message with which torch says that a CPU's memory has run out."""


class ForwardSizes:
    """The latent area that a forward may have, for each network that ran out of memory.

    By network, because an autoencoder takes many times the memory of a UNet for the same latent.
    """

    def __init__(self) -> None:
        self._most: dict[str, int] = {}

    def most(self, network: str) -> float:
        """Latent area of a network's forward; infinite while all have found memory."""
        return self._most.get(network, math.inf)

    def parts(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """A group's jobs as forwards that may be: one of them all where nothing is known."""
        most = self.most(jobs[0].network.name)
        parts: list[list[Job]] = []
        for job in jobs:
            if parts and _latent_area((*parts[-1], job)) <= most:
                parts[-1].append(job)
            else:
                parts.append([job])
        return parts

    def halve(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """Halves of a forward that found no memory; none of its network is larger from now on.

        Args:
            jobs: of the forward, two at the least.
        """
        middle = len(jobs) // 2
        halves = [jobs[:middle], jobs[middle:]]
        name = jobs[0].network.name
        self._most[name] = max(_latent_area(half) for half in halves)
        logger.warning(
            "%s found no memory for a latent area of %d in %d jobs; the most is %d from now on",
            name,
            _latent_area(jobs),
            len(jobs),
            self._most[name],
        )
        return halves


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)


def _latent_area(jobs: Iterable[Job]) -> int:
    return sum(job.phase.rows * job.phase.latent_area for job in jobs)
