"""A job's state between two steps: enough to go on in another engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch


class SnapshotRefused(ValueError):
    """A snapshot that no job of this kind can have made.

    Args:
        part: `latent.shape`, `latent.data` or `state`.
        description: one sentence that says what would be right.
    """

    def __init__(self, part: str, description: str) -> None:
        super().__init__(f"{part}: {description}")
        self.part = part
        self.description = description


@dataclass(frozen=True)
class Snapshot:
    """What precedes its phase is computed from the request when the job goes on."""

    phase: int
    """Index of the phase at work."""
    step: int
    """Steps done in it."""
    latent: torch.Tensor
    """[1, ...], after that step."""
    generator_state: torch.Tensor
    """uint8 [5056], of the job's CPU generator."""
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What else the phase keeps from step to step, by name."""


def accept_latent(latent: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A snapshot's latent in this replica's dtype.

    Args:
        latent: as a request brings it, of any floating-point dtype.
        shape: that the phase has, [1, ...].
        dtype: that the phase has.

    Raises:
        SnapshotRefused: the shape is another, or a value is not finite.
    """
    if list(latent.shape) != list(shape):
        raise SnapshotRefused("latent.shape", f"must be {list(shape[1:])} here")
    latent = latent.to(dtype)
    if not latent.isfinite().all():
        raise SnapshotRefused("latent.data", "holds a value that is not finite")
    return latent
