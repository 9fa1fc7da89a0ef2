"""Classifier-free guidance of a network's predictions."""

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
