"""Classifier-free guidance of a network's predictions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes the unconditional and the conditional predictions [J, ...], and their scales [J, 1, ...];
returns the guided ones."""


def classifier_free_guidance(
    unconditional: torch.Tensor, conditional: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """uncond + scale * (cond - uncond): arXiv 2207.12598 eq. 6 with w = scale - 1."""
    return unconditional + scale * (conditional - unconditional)


def guidance_embedding(scale: torch.Tensor, width: int, like: torch.Tensor) -> torch.Tensor:
    """sin and cos of 1000 w / 10000^(i / (width / 2 - 1)), w = scale - 1: arXiv 2310.04378.

    Args:
        scale: float32 [rows], of guidance.
        width: of the embedding; an odd one ends with a zero.
        like: has the device and the dtype.

    Returns:
        [rows, width].
    """
    half = width // 2
    rates = torch.exp(-torch.arange(half, dtype=torch.float32) * (math.log(10000.0) / (half - 1)))
    angles = 1000.0 * (scale - 1)[:, None] * rates
    found = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(found, (0, width % 2)).to(like)


@dataclass(frozen=True)
class Guidance:
    """How a job's rows become one prediction.

    What the unconditional row reads (the empty text, the zero image, zeros) is the conditioning's.
    """

    scale: float
    """Guidance is on above 1; then a job has two rows, the unconditional one first."""
    rule: Rule = classifier_free_guidance

    @property
    def is_on(self) -> bool:
        """Whether there is an unconditional row."""
        return self.scale > 1
