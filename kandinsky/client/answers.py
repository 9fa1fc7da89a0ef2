"""Messages of a server to values. The one place where both clients read answers."""

from typing import Any

from google.protobuf import duration_pb2
from google.protobuf.message import Message

from kandinsky.client.events import (
    CostEstimate,
    Event,
    Generated,
    Preview,
    Progress,
    Queued,
    StageCost,
    StageStats,
)
from kandinsky.v1 import generation_pb2, sampling_pb2, settings_pb2
from kandinsky.wire import tensors

_FORMAT_NAMES = {
    number: name.removeprefix("OUTPUT_FORMAT_").lower()
    for name, number in settings_pb2.OutputFormat.items()
}


def read(event: generation_pb2.GenerateEvent) -> Event | None:
    """The event as a value; None for a kind that only newer clients know.

    Raises:
        KandinskyError: INVALID_FIELD if a tensor's bytes are not what its shape says.
    """
    index = event.image_index
    match event.WhichOneof("event"):
        case "queued":
            queued = event.queued
            return Queued(index, queued.position, _optional_seconds(queued, "wait"))
        case "progress":
            at = event.progress
            remaining = _optional_seconds(at, "remaining")
            return Progress(index, at.phase, at.step, at.steps, remaining)
        case "preview":
            preview = event.preview
            pixels = tensors.decode(preview.pixels, "preview.pixels")
            return Preview(index, preview.step, pixels, _seconds(preview.cost))
        case "image":
            return _generated(event.image)
        case "estimate":
            return cost_estimate(event.estimate)
        case _:
            return None


def cost_estimate(estimate: generation_pb2.CostEstimate) -> CostEstimate:
    """The estimate as a value."""
    return CostEstimate(
        images=estimate.images,
        stages={
            cost.stage: StageCost(
                denoise_cost=cost.denoise_cost,
                running=_optional_seconds(cost, "running"),
                queued=_optional_seconds(cost, "queued"),
            )
            for cost in estimate.stages
        },
        least=_optional_seconds(estimate, "least"),
    )


def _generated(image: generation_pb2.GeneratedImage) -> Generated:
    tensor: Any = None
    if image.WhichOneof("content") == "tensor":
        tensor = tensors.decode(image.tensor, "image.tensor")
    return Generated(
        index=image.index,
        seed=image.seed,
        format=_FORMAT_NAMES.get(image.format, "png"),
        elapsed=_seconds(image.elapsed),
        stats={
            stage: _stats(getattr(image, f"{stage}_stats"))
            for stage in ("prior", "decoder")
            if image.HasField(f"{stage}_stats")
        },
        encoded=image.encoded if tensor is None else None,
        tensor=tensor,
        flagged=_optional(image, "flagged"),
    )


def _stats(stats: sampling_pb2.SamplingStats) -> StageStats:
    return StageStats(
        queued=_seconds(stats.queued),
        running=_seconds(stats.running),
        forwards=stats.forwards,
        shared_forwards=stats.shared_forwards,
        first_shared_forward=_optional(stats, "first_shared_forward"),
        last_shared_forward=_optional(stats, "last_shared_forward"),
        peak_rows=stats.peak_rows,
        resumes=stats.resumes,
        steps_redone=stats.steps_redone,
        most_steps_redone=stats.most_steps_redone,
    )


def _optional(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _optional_seconds(message: Message, field: str) -> float | None:
    return _seconds(getattr(message, field)) if message.HasField(field) else None


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.ToNanoseconds() / 1e9
