"""Previews of running jobs: charged to their tenants, within a bounded share of the time."""

from collections.abc import Callable, Collection

import torch

from services.engine.counters import Counters
from services.engine.events import Preview
from services.engine.forward_sizes import is_out_of_memory
from services.engine.job import Job

SHARE = 0.2
"""Of the engine's time, for the previews of all tenants, where there are several."""


class Previews:
    """Makes previews when they are due, for all jobs of one engine.

    Beside others, a tenant has an equal part of SHARE: a preview that is due before the last one
    is paid for by time gone by is left out. A tenant that is alone gets all of them.

    Args:
        counters: of the engine.
        clock: seconds.
    """

    def __init__(self, counters: Counters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._owed: dict[str, float] = {}
        """Seconds, by tenant."""
        self._spent: dict[str, float] = {}
        """Seconds of the step at work, by tenant; of those beside others alone."""
        self._seconds = 0.0
        """Of the step at work, for all previews."""

    def make(self, job: Job, prediction: torch.Tensor, is_alone: bool) -> Preview | None:
        """The preview that is due with the step to be taken with this prediction.

        None where it is left out: the tenant's time for previews is used up, the device's memory
        has run out, or the phase makes no previews.

        Args:
            job: between its forward and its step.
            prediction: the job's own, from its network's output.
            is_alone: whether all jobs that run and wait are of the job's tenant.
        """
        if not is_alone and job.tenant in self._owed:
            self._counters.previews_left_out += 1
            return None
        _finish_work(prediction)
        begun = self._clock()
        try:
            pixels = job.preview(prediction)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._counters.previews_left_out += 1
            return None
        if pixels is None:
            return None
        _finish_work(prediction)
        seconds = self._clock() - begun
        self._counters.previews += 1
        self._seconds += seconds
        if not is_alone:
            self._spent[job.tenant] = self._spent.get(job.tenant, 0.0) + seconds
        return Preview(job.step + 1, pixels, seconds)

    def settle(self, seconds: float, running: Collection[Job]) -> tuple[float, dict[str, float]]:
        """Ends a step.

        Args:
            seconds: that it took with its previews; each tenant pays with its part of SHARE.
            running: all jobs at work; tenants that have none owe nothing any more.

        Returns:
            The seconds without previews, and those of previews by the tenant to charge them to.
        """
        tenants = {job.tenant for job in running}
        part = SHARE * seconds / max(len(tenants), 1)
        spent, rest = self._spent, seconds - self._seconds
        owed = {
            tenant: self._owed.get(tenant, 0.0) + spent.get(tenant, 0.0) - part
            for tenant in tenants
        }
        self._owed = {tenant: each for tenant, each in owed.items() if each > 0}
        self._spent, self._seconds = {}, 0.0
        return rest, spent


def _finish_work(tensor: torch.Tensor) -> None:
    """Waits for a device that works on its own, so that what follows is measured alone."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
