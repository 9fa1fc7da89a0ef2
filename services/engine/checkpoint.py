"""Enough of a job to go on with it in another engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Checkpoint:
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
