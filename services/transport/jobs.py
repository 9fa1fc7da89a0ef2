"""A sampling call as a job of the engine."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch

from kandinsky.v1 import decoder_pb2, prior_pb2
from kandinsky.wire.errors import invalid
from services.engine.job import Job
from services.engine.phase import Phase
from services.transport import reading
from services.transport.resuming import read_snapshot
from services.transport.rpc import Context, deadline, priority, request_id, tenant

R = TypeVar("R")
S = TypeVar("S", prior_pb2.SampleEmbeddingRequest, decoder_pb2.DecodeRequest)


async def sampling_job(
    phases_of: Callable[[S], Sequence[Phase]], request: S, context: Context, computes: bool = False
) -> Job:
    """The engine's job for a sampling call: its own generator, its caller's deadline and tenant.

    Args:
        phases_of: what the job passes.
        request: says how.
        context: holds the request id, the time that remains, tenant and priority.
        computes: whether `phases_of` may take long: it is not called on the event loop then.

    Raises:
        KandinskyError: what `phases_of` raises; INVALID_FIELD if the seed is missing, the
            generator's state is not one, or the snapshot is not one of such a request.
    """
    make = partial(_made, phases_of, request)
    phases = await asyncio.to_thread(make) if computes else make()
    sampling, preview_every = request.sampling, None
    if not sampling.HasField("seed"):
        raise invalid("sampling.seed", "is required")
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    if isinstance(request, decoder_pb2.DecodeRequest):
        if request.HasField("generator_state"):
            state = reading.generator_state(request.generator_state, "generator_state")
            generator.set_state(state)
        if request.HasField("preview_every"):
            preview_every = request.preview_every
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
        progress_every=sampling.progress_every if sampling.HasField("progress_every") else None,
        preview_every=preview_every,
        resume_from=resume_from,
    )


def pass_job(phases_of: Callable[[R], Sequence[Phase]], request: R, context: Context) -> Job:
    """The engine's job for a call that draws nothing at random; arguments as above."""
    return Job(
        request_id(context),
        _made(phases_of, request),
        torch.Generator("cpu"),
        deadline(context),
        tenant(context),
        priority(context),
    )


def _made(phases_of: Callable[[R], Sequence[Phase]], request: R) -> Sequence[Phase]:
    """The phases, of tensors such as the engine makes: torch.compile tells them from others."""
    with torch.inference_mode():
        return phases_of(request)
