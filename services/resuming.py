"""Checkpoints of jobs on the wire."""

from collections.abc import Sequence
from typing import Any

import torch

from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.engine.checkpoint import Checkpoint
from services.engine.phase import Phase

MOST_STATES = 64
"""Named tensors that a scheduler's state may have."""


def checkpoint_message(checkpoint: Checkpoint) -> sampling_pb2.Checkpoint:
    """A checkpoint for the wire."""
    return sampling_pb2.Checkpoint(
        phase=checkpoint.phase,
        step=checkpoint.step,
        latents=tensors.from_torch(checkpoint.latent[0]),
        generator_state=tensors.from_torch(checkpoint.generator_state),
        scheduler_state=[
            sampling_pb2.NamedTensor(name=name, tensor=tensors.from_torch(tensor))
            for name, tensor in checkpoint.state.items()
        ],
    )


def read_checkpoint(message: sampling_pb2.Checkpoint, phases: Sequence[Phase]) -> Checkpoint:
    """The checkpoint of a request's `resume_from`.

    Args:
        message: as some replica of the stage sent it.
        phases: of the request.

    Raises:
        KandinskyError: INVALID_FIELD if it is no checkpoint of such a request; what only the
            phase can tell, the engine checks when it gets there.
    """
    if not 0 <= message.phase < len(phases):
        raise invalid("resume_from.phase", f"must be from 0 to {len(phases) - 1}")
    steps = len(phases[message.phase].timesteps)
    if not 0 < message.step < steps:
        raise invalid("resume_from.step", f"must be from 1 to {steps - 1}")
    if len(message.scheduler_state) > MOST_STATES:
        raise invalid("resume_from.scheduler_state", f"has more than {MOST_STATES} tensors")
    allowed = tensors.FLOATS | tensors.INT64 | tensors.BOOL
    return Checkpoint(
        phase=message.phase,
        step=message.step,
        latent=_read(message.latents, "resume_from.latents", tensors.FLOATS)[None],
        generator_state=_read(
            message.generator_state, "resume_from.generator_state", tensors.UINT8
        ),
        state={
            entry.name: _read(entry.tensor, f"resume_from.scheduler_state[{place}].tensor", allowed)
            for place, entry in enumerate(message.scheduler_state)
        },
    )


def _read(message: tensor_pb2.Tensor, path: str, dtypes: frozenset[Any]) -> torch.Tensor:
    value: torch.Tensor = tensors.to_torch(message, path, dtypes=dtypes)
    return value
