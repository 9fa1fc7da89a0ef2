"""What a request will take, before any stage is asked: refuses what cannot be done in time.

Learns from the events of the requests that were let in. What was not measured counts as nothing, so
that nothing is refused that could be done; the stages, which know their own queues, check each job
against the deadline again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.plan import Draft
from gateway.server.call import Call
from gateway.server.stage_queues import StageQueues
from gateway.server.step_times import StepTimeEstimator
from kandinsky.catalog.catalog import Stage
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.sampling_pb2 import SamplingStats
from kandinsky.wire.errors import KandinskyError, Reason

DOUBT = 0.7
"""Share of the expected wait that counts against a deadline: others may leave early."""
LEAST_RETRY = 0.1
"""Seconds."""
SAMPLERS = (Stage.PRIOR, Stage.DECODER)


@dataclass(frozen=True)
class Estimate:
    """What a request will take."""

    least: float
    """Seconds of work on its slowest image, with every stage to itself. Encoders take none: a text
    that they saw lately is not encoded again."""
    wait: float
    """Seconds that an image is expected to wait for room, at prior and decoder together."""


class RequestEstimator:
    """Estimates requests, and learns from those at work.

    Args:
        clock: seconds, monotonic, on which deadlines are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times = StepTimeEstimator(clock)
        self._queues = StageQueues(clock)
        self._arrivals = itertools.count(1)

    def estimate(self, draft: Draft, call: Call) -> Estimate:
        """What a request would take if it came now; its images go side by side."""
        stages = [stage for stage in SAMPLERS if draft.steps(stage)]
        return Estimate(
            least=sum(self._times.least(_kind(draft, s), draft.steps(s)) for s in stages),
            wait=sum(self._queues.wait(_lane(draft, call, stage)) for stage in stages),
        )

    def check(self, draft: Draft, call: Call) -> None:
        """Refuse a request that cannot be done by its deadline.

        Raises:
            KandinskyError: DEADLINE_EXCEEDED if there is no time even for the request alone;
                OVERLOADED, with a time to come back, if it is what waits before it that takes the
                time.
        """
        if call.deadline is None:
            return
        left, estimate = call.deadline - self._clock(), self.estimate(draft, call)
        if estimate.least > left:
            raise KandinskyError(
                Reason.DEADLINE_EXCEEDED,
                f"this takes {estimate.least:.2f} s at the least, and {left:.2f} s are left",
            )
        if estimate.wait and DOUBT * estimate.wait + estimate.least > left:
            raise KandinskyError(
                Reason.OVERLOADED,
                f"about {estimate.wait:.1f} s of work wait before this, and {left:.1f} s are left",
                retry_after=max(LEAST_RETRY, estimate.wait),
            )

    @contextmanager
    def watch(
        self, draft: Draft, call: Call
    ) -> Iterator[Callable[[generation.GenerateEvent], None]]:
        """Learn from a request at work; gives what takes its events."""
        watch = _Watch(draft, call, self._times, self._queues, self._arrivals)
        try:
            yield watch.note
        finally:
            watch.end()


class _Watch:
    """Learns from the events of one request."""

    def __init__(
        self,
        draft: Draft,
        call: Call,
        times: StepTimeEstimator,
        queues: StageQueues,
        arrivals: Iterator[int],
    ) -> None:
        self._draft = draft
        self._lanes = {stage: _lane(draft, call, stage) for stage in SAMPLERS}
        self._times = times
        self._queues = queues
        self._arrivals = arrivals
        self._waiting: dict[int, tuple[Stage, int]] = {}
        """Stage and arrival of each image that waits."""
        self._has_prior: set[int] = set()
        """Images whose prior has been seen at work."""

    def note(self, event: generation.GenerateEvent) -> None:
        """Take in an event."""
        index = event.image_index
        match event.WhichOneof("event"):
            case "queued":
                self._note_queued(index, event.queued.wait.ToNanoseconds() / 1e9)
            case "progress":
                self._let_in(index)
                self._has_prior.add(index)
            case "image":
                self._let_in(index)
                for stage in SAMPLERS:
                    self._note_stats(stage, event.image)

    def end(self) -> None:
        """Forget the images that still wait: the request has ended."""
        for stage, arrival in self._waiting.values():
            self._queues.left(self._lanes[stage], arrival)

    def _note_queued(self, index: int, seconds: float) -> None:
        in_prior = self._draft.steps(Stage.PRIOR) and index not in self._has_prior
        stage = Stage.PRIOR if in_prior else Stage.DECODER
        if self._waiting.get(index, (None,))[0] is not stage:
            self._let_in(index)
            self._waiting[index] = stage, next(self._arrivals)
        self._queues.queued(self._lanes[stage], self._waiting[index][1], seconds)

    def _let_in(self, index: int) -> None:
        if index in self._waiting:
            stage, arrival = self._waiting.pop(index)
            self._queues.let_in(self._lanes[stage], arrival)

    def _note_stats(self, stage: Stage, image: generation.GeneratedImage) -> None:
        field = f"{stage.value}_stats"
        if self._draft.steps(stage) and image.HasField(field):
            stats: SamplingStats = getattr(image, field)
            if stage is Stage.PRIOR or not self._draft.settings.preview_every:  # they cost time too
                self._times.note(_kind(self._draft, stage), stats, 1 + _guided(self._draft, stage))


def _lane(draft: Draft, call: Call, stage: Stage) -> Hashable:
    if stage not in draft.entry.stages:
        return None
    return draft.entry.application(stage), call.tenant, call.priority


def _kind(draft: Draft, stage: Stage) -> Hashable:
    """What makes two jobs of a stage cost the same, step for step and pass for pass."""
    application, guided = draft.entry.application(stage), _guided(draft, stage)
    if stage is Stage.PRIOR:
        return application, guided
    settings = draft.settings
    latents = settings.output.format == generation.OUTPUT_FORMAT_LATENTS
    inputs = frozenset(tuple(one.size is None for one in start.inputs) for start in draft.starts)
    return application, guided, draft.flow, settings.height * settings.width, latents, inputs


def _guided(draft: Draft, stage: Stage) -> bool:
    return draft.settings.prior_guided if stage is Stage.PRIOR else draft.settings.guided
