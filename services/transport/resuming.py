"""Snapshots of jobs on the wire."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.engine.phase import Phase
from services.engine.snapshot import Snapshot, SnapshotRefused
from services.transport import reading

MOST_STATES = 64
"""Named tensors that a sampler's state may have."""
PATHS: Mapping[str, str] = {
    "latent.shape": "resume_from.latents.shape",
    "latent.data": "resume_from.latents.data",
    "state": "resume_from.sampler_state",
}
"""Paths of a request, by the part of a snapshot that the engine refuses."""


def snapshot_message(snapshot: Snapshot) -> sampling_pb2.Snapshot:
    """A snapshot for the wire."""
    return sampling_pb2.Snapshot(
        phase=snapshot.phase,
        step=snapshot.step,
        latents=tensors.from_torch(snapshot.latent[0]),
        generator_state=tensors.from_torch(snapshot.generator_state),
        sampler_state=[
            sampling_pb2.NamedTensor(name=name, tensor=tensors.from_torch(tensor))
            for name, tensor in snapshot.state.items()
        ],
    )


def read_snapshot(message: sampling_pb2.Snapshot, phases: Sequence[Phase]) -> Snapshot:
    """The snapshot of a request's `resume_from`, whole and fit to go on from.

    Args:
        message: as some replica of the stage sent it.
        phases: of the request.

    Raises:
        KandinskyError: INVALID_FIELD if it is not a snapshot of such a request.
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
        generator_state=reading.generator_state(
            message.generator_state, "resume_from.generator_state"
        ),
        state=_read_state(message.sampler_state),
    )
    try:
        return phase.accept(snapshot)
    except SnapshotRefused as error:
        raise invalid(PATHS[error.part], error.description) from error


def _read_state(entries: Sequence[sampling_pb2.NamedTensor]) -> dict[str, torch.Tensor]:
    path = PATHS["state"]
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
