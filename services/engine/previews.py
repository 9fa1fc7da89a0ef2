"""Previews of running jobs: charged to their tenants, within a bounded share of the time."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from services.device.clock import DeviceClock, Span
from services.engine.counters import Counters
from services.engine.events import Preview
from services.engine.forward_sizes import is_out_of_memory
from services.engine.job import Job
from services.engine.stack import Stack

SHARE = 0.2
"""Of the engine's time, for the previews of all tenants, where there are several."""


@dataclass(frozen=True)
class Made:
    """Previews of one step."""

    span: Span
    tenants: Sequence[str | None]
    """Of each; None for one that was alone, and pays nothing."""


class Previews:
    """Makes previews when they are due, for all jobs of one engine.

    Beside others, a tenant has an equal part of SHARE: a preview that is due before the last one
    is paid for by time gone by is left out. A tenant that is alone gets all of them.

    Args:
        counters: of the engine.
        device: on which they are timed.
    """

    def __init__(self, counters: Counters, device: DeviceClock) -> None:
        self._counters = counters
        self._device = device
        self._owed: dict[str, float] = {}
        """Seconds, by tenant."""
        self._made: list[Made] = []
        """In the step at work."""

    def make(
        self, stack: Stack, prediction: torch.Tensor, is_alone: Callable[[Job], bool]
    ) -> dict[int, Preview]:
        """The previews that are due with the step to be taken with this prediction.

        One is left out where the tenant's time for previews is used up, the device's memory has run
        out, or the phase makes none.

        Args:
            stack: between its forward and its step.
            prediction: its jobs', from the network's output.
            is_alone: whether all jobs that run and wait are of the job's tenant.

        Returns:
            By place in the stack.
        """
        jobs = stack.members
        due = {place: job for place, job in enumerate(jobs) if job.preview_is_due}
        tenants = {p: None if is_alone(job) else job.tenant for p, job in due.items()}
        places = [place for place, tenant in tenants.items() if tenant not in self._owed]
        self._counters.previews_left_out += len(due) - len(places)
        if not places:
            return {}
        begins = self._device.mark()
        try:
            images = stack.phases[0].stepper.preview(stack, prediction, places)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._counters.previews_left_out += len(places)
            return {}
        found = {p: image for p, image in zip(places, images, strict=True) if image is not None}
        span = Span(begins, self._device.mark())
        self._counters.previews += len(found)
        self._made.append(Made(span, [tenants[place] for place in found]))
        return {
            place: Preview(jobs[place].step + 1, image, span, len(found))
            for place, image in found.items()
        }

    def take(self) -> list[Made]:
        """What was made since the last call."""
        made, self._made = self._made, []
        return made

    def settle(
        self, seconds: float, made: Collection[Made], tenants: Collection[str]
    ) -> tuple[float, dict[str, float]]:
        """Accounts for a step that the device has ended.

        Args:
            seconds: that it took with its previews; each tenant pays with its part of SHARE.
            made: in it.
            tenants: of all jobs at work; others owe nothing any more.

        Returns:
            The seconds without previews, and those of previews by the tenant to charge them to.
        """
        part = SHARE * seconds / max(len(tenants), 1)
        spent: dict[str, float] = {}
        rest = seconds
        for one in made:
            rest -= one.span.seconds
            for tenant in one.tenants:
                if tenant is not None:
                    each = one.span.seconds / len(one.tenants)
                    spent[tenant] = spent.get(tenant, 0.0) + each
        owed = {
            tenant: self._owed.get(tenant, 0.0) + spent.get(tenant, 0.0) - part
            for tenant in tenants
        }
        self._owed = {tenant: each for tenant, each in owed.items() if each > 0}
        return rest, spent
