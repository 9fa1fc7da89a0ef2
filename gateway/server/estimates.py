"""Estimates what a request takes, before any stage is called: refuses what cannot be done in time.

Learns from the events of admitted requests. What was not measured counts as nothing: nothing is
refused that could be done. The stages, which know their own queues, check each job against the
deadline again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.planning.generation_plan import GenerationPlan
from gateway.server.call import Call
from gateway.server.stage_queues import StageQueues
from gateway.server.step_times import StepTimeEstimator
from kandinsky.catalog.family import Stage
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.sampling_pb2 import SamplingStats
from kandinsky.wire.errors import KandinskyError, Reason

DOUBT = 0.7
"""Share of the expected wait that counts against a deadline: others may leave early."""
LEAST_RETRY = 0.1
"""Seconds."""


@dataclass(frozen=True)
class StageEstimate:
    """What a job of a request takes of a sampling stage; 0 for what was not measured."""

    running: float
    """Seconds of work at the least, with the stage to itself."""
    queued: float
    """Seconds that it is expected to wait for room."""


class RequestEstimator:
    """Estimates requests, and learns from those at work.

    Encoders count as nothing: a text that they saw lately is not encoded again.

    Args:
        clock: seconds, monotonic, on which deadlines are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times = StepTimeEstimator(clock)
        self._queues = StageQueues(clock)
        self._arrivals = itertools.count(1)

    def estimate(self, plan: GenerationPlan, call: Call) -> dict[Stage, StageEstimate]:
        """Estimate what a request would take if it came now, by the stages that sample for it."""
        return {
            stage: StageEstimate(
                running=self._times.least(work.kind, work.steps),
                queued=self._queues.wait(_lane(plan, call, stage)),
            )
            for stage, work in plan.work.items()
        }

    def check(self, plan: GenerationPlan, call: Call) -> None:
        """Refuse a request that cannot be done by its deadline; its images go side by side.

        Raises:
            KandinskyError: DEADLINE_EXCEEDED if there is no time even for the request alone;
                OVERLOADED, with a time to come back, if it is what waits before it that takes the
                time.
        """
        if call.deadline is None:
            return
        left, stages = call.deadline - self._clock(), self.estimate(plan, call).values()
        least, wait = sum(each.running for each in stages), sum(each.queued for each in stages)
        if least > left:
            raise KandinskyError(
                Reason.DEADLINE_EXCEEDED,
                f"this takes {least:.2f} s at the least, and {left:.2f} s are left",
            )
        if wait and DOUBT * wait + least > left:
            raise KandinskyError(
                Reason.OVERLOADED,
                f"about {wait:.1f} s of work wait before this, and {left:.1f} s are left",
                retry_after=max(LEAST_RETRY, wait),
            )

    def cost(self, plan: GenerationPlan, call: Call) -> generation.CostEstimate:
        """The answer to a request with `validate_only`; what was not measured is absent."""
        estimates = self.estimate(plan, call)
        cost = generation.CostEstimate(images=len(plan.images))
        for stage, estimate in estimates.items():
            stage_cost = cost.stages.add(
                stage=stage.value, denoise_cost=plan.work[stage].denoise_cost
            )
            if estimate.running:
                stage_cost.running.FromNanoseconds(round(estimate.running * 1e9))
            if estimate.queued:
                stage_cost.queued.FromNanoseconds(round(estimate.queued * 1e9))
        least = sum(each.running for each in estimates.values())
        if least:
            cost.least.FromNanoseconds(round(least * 1e9))
        return cost

    @contextmanager
    def watch(
        self, plan: GenerationPlan, call: Call
    ) -> Iterator[Callable[[generation.GenerateEvent], None]]:
        """Learn from a request at work; yield the function that notes its events."""
        watch = _Watch(plan, call, self._times, self._queues, self._arrivals)
        try:
            yield watch.note
        finally:
            watch.end()


class _Watch:
    """Learns from the events of one request."""

    def __init__(
        self,
        plan: GenerationPlan,
        call: Call,
        times: StepTimeEstimator,
        queues: StageQueues,
        arrivals: Iterator[int],
    ) -> None:
        self._plan = plan
        self._lanes = {stage: _lane(plan, call, stage) for stage in plan.work}
        self._times = times
        self._queues = queues
        self._arrivals = arrivals
        self._waiting: dict[int, tuple[Stage, int]] = {}
        """Stage and arrival of each image that waits."""
        self._has_prior: set[int] = set()
        """Images whose prior was seen at work."""

    def note(self, event: generation.GenerateEvent) -> None:
        """Take in an event."""
        index = event.image_index
        match event.WhichOneof("event"):
            case "queued":
                self._note_queued(index, event.queued.wait.ToNanoseconds() / 1e9)
            case "progress":
                self._note_admitted(index)
                self._has_prior.add(index)
            case "image":
                self._note_admitted(index)
                for stage in self._plan.work:
                    self._note_stats(stage, event.image)

    def end(self) -> None:
        """Forget the images that still wait: the request has ended."""
        for stage, arrival in self._waiting.values():
            self._queues.left(self._lanes[stage], arrival)

    def _note_queued(self, index: int, seconds: float) -> None:
        in_prior = Stage.PRIOR in self._plan.work and index not in self._has_prior
        stage = Stage.PRIOR if in_prior else Stage.DECODER
        if self._waiting.get(index, (None,))[0] is not stage:
            self._note_admitted(index)
            self._waiting[index] = stage, next(self._arrivals)
        self._queues.queued(self._lanes[stage], self._waiting[index][1], seconds)

    def _note_admitted(self, index: int) -> None:
        if index in self._waiting:
            stage, arrival = self._waiting.pop(index)
            self._queues.admitted(self._lanes[stage], arrival)

    def _note_stats(self, stage: Stage, image: generation.GeneratedImage) -> None:
        field, work = f"{stage.value}_stats", self._plan.work[stage]
        if image.HasField(field):
            stats: SamplingStats = getattr(image, field)
            previews = self._plan.request.settings.events.preview_every
            if stage is Stage.PRIOR or not previews:  # they take time too
                self._times.note(work.kind, stats, work.rows)


def _lane(plan: GenerationPlan, call: Call, stage: Stage) -> Hashable:
    return plan.request.entry.application(stage), call.tenant, call.priority
