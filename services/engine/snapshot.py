"""Enough of a job to go on with it in another engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from kandinsky.wire.errors import invalid


@dataclass(frozen=True)
class Snapshot:
    """A job's state between two steps. What precedes the phase is made again from the request."""

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
        KandinskyError: INVALID_FIELD if the shape is another or a value is not finite.
    """
    if list(latent.shape) != list(shape):
        raise invalid("resume_from.latents.shape", f"must be {list(shape[1:])} here")
    latent = latent.to(dtype)
    if not latent.isfinite().all():
        raise invalid("resume_from.latents.data", "holds a value that is not finite")
    return latent
