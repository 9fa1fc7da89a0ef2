"""Checkpoints of jobs on the wire."""

from collections.abc import Sequence
from typing import Any

import torch

from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.engine.phase import Phase
from services.engine.snapshot import Snapshot

MOST_STATES = 64
"""Named tensors that a scheduler's state may have."""


def snapshot_message(snapshot: Snapshot) -> sampling_pb2.Checkpoint:
    """A snapshot for the wire."""
    return sampling_pb2.Checkpoint(
        phase=snapshot.phase,
        step=snapshot.step,
        latents=tensors.from_torch(snapshot.latent[0]),
        generator_state=tensors.from_torch(snapshot.generator_state),
        scheduler_state=[
            sampling_pb2.NamedTensor(name=name, tensor=tensors.from_torch(tensor))
            for name, tensor in snapshot.state.items()
        ],
    )


def read_snapshot(message: sampling_pb2.Checkpoint, phases: Sequence[Phase]) -> Snapshot:
    """The snapshot of a request's `resume_from`, whole and fit to go on from.

    Args:
        message: as some replica of the stage sent it.
        phases: of the request.

    Raises:
        KandinskyError: INVALID_FIELD if it is no snapshot of such a request.
    """
    if not 0 <= message.phase < len(phases):
        raise invalid("resume_from.phase", f"must be from 0 to {len(phases) - 1}")
    phase = phases[message.phase]
    steps = len(phase.timesteps)
    if not 0 < message.step < steps:
        raise invalid("resume_from.step", f"must be from 1 to {steps - 1}")
    snapshot = Snapshot(
        phase=message.phase,
        step=message.step,
        latent=_read(message.latents, "resume_from.latents", tensors.FLOATS)[None],
        generator_state=read_generator_state(
            message.generator_state, "resume_from.generator_state"
        ),
        state=_read_state(message.scheduler_state),
    )
    return phase.accept(snapshot)


def read_generator_state(message: tensor_pb2.Tensor, path: str) -> torch.Tensor:
    """uint8 [5056], a state that a CPU generator takes.

    Args:
        message: as a request brings it.
        path: the field's, for errors.

    Raises:
        KandinskyError: INVALID_FIELD if a generator refuses it.
    """
    generator = torch.Generator("cpu")
    shape = tuple(generator.get_state().shape)
    state: torch.Tensor = tensors.to_torch(message, path, dtypes=tensors.UINT8, shape=shape)
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise invalid(path, "is no state of a CPU generator") from error
    return state


def _read_state(entries: Sequence[sampling_pb2.NamedTensor]) -> dict[str, torch.Tensor]:
    path = "resume_from.scheduler_state"
    if len(entries) > MOST_STATES:
        raise invalid(path, f"has more than {MOST_STATES} tensors")
    if len({entry.name for entry in entries}) < len(entries):
        raise invalid(path, "has two tensors of one name")
    allowed = tensors.FLOATS | tensors.INT64 | tensors.BOOL
    return {
        entry.name: _read(entry.tensor, f"{path}[{place}].tensor", allowed)
        for place, entry in enumerate(entries)
    }


def _read(message: tensor_pb2.Tensor, path: str, dtypes: frozenset[Any]) -> torch.Tensor:
    value: torch.Tensor = tensors.to_torch(message, path, dtypes=dtypes)
    return value
