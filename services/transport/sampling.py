"""Reading and writing what the prior's and the decoder's sampling have in common."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kandinsky.v1 import conditioning_pb2, sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Violation, invalid, invalid_fields
from services.engine import job as jobs
from services.engine.job import Job
from services.engine.phase import Phase
from services.engine.snapshot import Snapshot
from services.transport.resuming import read_generator_state, read_snapshot, snapshot_message
from services.transport.rpc import Context, deadline, priority, request_id, tenant

DEFAULT_GUIDANCE_SCALE = 4.0
MAX_GUIDANCE_SCALE = 100.0
DEFAULT_STRENGTH = 0.3
MAX_SEED = 2**63 - 1


def guidance_scale(sampling: sampling_pb2.Sampling) -> float:
    """The request's guidance scale, or the default.

    Raises:
        KandinskyError: INVALID_FIELD if it is not a number from 0 to 100.
    """
    if not sampling.HasField("guidance_scale"):
        return DEFAULT_GUIDANCE_SCALE
    if not 0 <= sampling.guidance_scale <= MAX_GUIDANCE_SCALE:  # false for NaN
        raise invalid("sampling.guidance_scale", f"must be from 0 to {MAX_GUIDANCE_SCALE:g}")
    return sampling.guidance_scale


def steps(sampling: sampling_pb2.Sampling, at_least: int, at_most: int) -> int:
    """The request's number of denoising steps.

    Raises:
        KandinskyError: INVALID_FIELD if it is out of range.
    """
    if not at_least <= sampling.steps <= at_most:
        raise invalid("sampling.steps", f"must be from {at_least} to {at_most}")
    return sampling.steps


def strength(message: Any, path: str, default: float) -> float:
    """The share of the steps that a message's `strength` says to run.

    Raises:
        KandinskyError: INVALID_FIELD if it is not above 0, up to 1.
    """
    value: float = message.strength if message.HasField("strength") else default
    if not 0 < value <= 1:  # false for NaN
        raise invalid(f"{path}strength", "must be above 0, up to 1")
    return value


def tensor(
    message: Any, field: str, path: str, shape: Sequence[int | None], like: torch.Tensor
) -> torch.Tensor:
    """A required tensor field as [1, *shape], on `like`'s device and dtype.

    Floating-point fields come in any precision; a bool comes as a bool.

    Raises:
        KandinskyError: INVALID_FIELD if it is missing or has another shape.
    """
    if not message.HasField(field):
        raise invalid(path + field, "is required here")
    dtypes = tensors.BOOL if like.dtype == torch.bool else tensors.FLOATS
    value = tensors.to_torch(getattr(message, field), path + field, dtypes=dtypes, shape=shape)
    return value.to(like.device, like.dtype)[None]


def conditioning(
    message: conditioning_pb2.Conditioning,
    shapes: Mapping[str, Sequence[int]],
    guided: bool,
    like: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """What a network follows, [rows, *shape] each; with guidance the unconditional row first.

    Args:
        message: holds them; the unconditional ones by the same name after `negative_`.
        shapes: of each, by its field.
        guided: whether there is an unconditional row.
        like: has the device and the dtype; a mask is bool.

    Raises:
        KandinskyError: INVALID_FIELD with all that are missing or have another shape.
    """
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in shapes}
    violations: list[Violation] = []
    for side in ("negative_", "") if guided else ("",):
        for name, shape in shapes.items():
            dtype = like.bool() if name == "text_mask" else like
            try:
                rows[name].append(tensor(message, side + name, "conditioning.", shape, dtype))
            except KandinskyError as error:
                violations.extend(error.violations)
    if violations:
        raise invalid_fields(violations)
    return {name: torch.cat(sides) for name, sides in rows.items()}


async def job(phases: Sequence[Phase], request: Any, context: Context) -> Job:
    """The engine's job for a sampling call: its own generator, its caller's deadline and tenant.

    Args:
        phases: what the job passes.
        request: a SampleEmbeddingRequest or a DecodeRequest.
        context: holds the request id, the time that remains, tenant and priority.

    Raises:
        KandinskyError: INVALID_FIELD if the seed is missing or out of range, the cadence of
            progress or previews is less than 1, the state is not one of a CPU generator, or the
            checkpoint is none of such a request.
    """
    sampling = request.sampling
    if not sampling.HasField("seed") or not 0 <= sampling.seed <= MAX_SEED:
        raise invalid("sampling.seed", f"is required, from 0 to {MAX_SEED}")
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    if _has(request, "generator_state"):
        generator.set_state(read_generator_state(request.generator_state, "generator_state"))
    every = sampling.progress_every if sampling.HasField("progress_every") else None
    if every is not None and every < 1:
        raise invalid("sampling.progress_every", f"{every} is less than 1")
    preview_every = getattr(request, "preview_every", 0)
    if preview_every < 0:
        raise invalid("preview_every", f"{preview_every} is less than 1")
    resume_from = None
    if request.HasField("resume_from"):  # what it must look like is computed: not on the event loop
        resume_from = await asyncio.to_thread(read_snapshot, request.resume_from, phases)
    return Job(
        request_id(context),
        phases,
        generator,
        deadline(context),
        tenant(context),
        priority(context),
        progress_every=every,
        preview_every=preview_every,
        resume_from=resume_from,
    )


def _has(request: Any, field: str) -> bool:
    return field in request.DESCRIPTOR.fields_by_name and bool(request.HasField(field))


def event_fields(
    event: jobs.Queued | jobs.Progress | jobs.Preview | jobs.Alive | Snapshot,
) -> dict[str, Any]:
    """The keyword argument of the stage's event message for an engine event under way."""
    if isinstance(event, jobs.Alive):
        return {}
    if isinstance(event, Snapshot):
        return {"checkpoint": snapshot_message(event)}
    if isinstance(event, jobs.Queued):
        queued = sampling_pb2.Queued(position=event.position)
        if event.wait is not None:
            queued.wait.FromNanoseconds(round(event.wait * 1e9))
        return {"queued": queued}
    if isinstance(event, jobs.Preview):
        preview = sampling_pb2.Preview(pixels=tensors.from_torch(event.pixels), step=event.step)
        preview.cost.FromNanoseconds(round(event.seconds * 1e9))
        return {"preview": preview}
    progress = sampling_pb2.Progress(phase=event.phase, step=event.step, steps=event.steps)
    progress.remaining.FromNanoseconds(round(event.remaining * 1e9))
    return {"progress": progress}


def stats_message(stats: jobs.Stats) -> sampling_pb2.SamplingStats:
    """A job's statistics for the wire."""
    message = sampling_pb2.SamplingStats(
        forwards=stats.forwards,
        shared_forwards=stats.shared_forwards,
        first_shared_forward=stats.first_shared_forward,
        last_shared_forward=stats.last_shared_forward,
        peak_rows=stats.peak_rows,
    )
    message.queued.FromNanoseconds(round(stats.queued * 1e9))
    message.running.FromNanoseconds(round(stats.running * 1e9))
    return message
