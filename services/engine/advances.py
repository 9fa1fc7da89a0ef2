"""The steps of stacked jobs behind their forward, and what is seen of them."""

import logging
from collections.abc import Callable

import torch

from services.engine.events import Preview
from services.engine.job import Job
from services.engine.previews import Previews
from services.engine.stack import Stack

logger = logging.getLogger(__name__)


class Advances:
    """Takes stacks through their steps, for all groups of one engine.

    Args:
        previews: of the engine.
    """

    def __init__(self, previews: Previews) -> None:
        self._previews = previews

    def take(
        self,
        stack: Stack,
        output: torch.Tensor,
        is_alone: Callable[[Job], bool],
        fail: Callable[[Job, Exception], None],
    ) -> list[tuple[Job, Preview | None]]:
        """The jobs that have taken their step, each with the preview that was due.

        A step that fails is taken again for each of its jobs alone, with the same noise.

        Args:
            stack: the jobs.
            output: the network's, for the rows of the stack.
            is_alone: whether all jobs that run and wait are of the job's tenant.
            fail: is called in place of a pair, with what went wrong with the job alone.
        """
        jobs = stack.members
        try:
            noise = stack.phases[0].stepper.draw(stack)
        except Exception as error:  # the generators have gone on: nobody's step can be taken again
            for job in jobs:
                fail(job, error)
            return []
        try:
            return self._take(stack, output, noise, is_alone)
        except Exception as error:
            if len(jobs) == 1:
                fail(jobs[0], error)
                return []
            logger.exception("a step of %d jobs failed: each goes alone", len(jobs))
        taken = []
        outputs = output.split(stack.counts)
        for place, job in enumerate(jobs):
            try:
                alone = Stack([job], [stack.state_of(place)])
                job.join(alone, 0)
                own = None if noise is None else noise.narrow(0, place, 1)
                alone.phases[0].stepper.inputs(alone)  # tells the stepper where the job is
                taken += self._take(alone, outputs[place], own, is_alone)
            except Exception as error:
                fail(job, error)
        return taken

    def _take(
        self,
        stack: Stack,
        output: torch.Tensor,
        noise: torch.Tensor | None,
        is_alone: Callable[[Job], bool],
    ) -> list[tuple[Job, Preview | None]]:
        stepper = stack.phases[0].stepper
        prediction = stepper.predict(stack, output)
        previews = self._previews.make(stack, prediction, is_alone)
        stack.state = stepper.advance(stack, prediction, noise)
        for job in stack.members:
            job.take_step()
        return [(job, previews.get(place)) for place, job in enumerate(stack.members)]
