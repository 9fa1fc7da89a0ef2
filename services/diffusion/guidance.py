"""Classifier-free guidance of a network's prediction."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Rule = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Takes the unconditional and the conditional prediction, and the scale; returns the guided one."""


def classifier_free_guidance(
    unconditional: torch.Tensor, conditional: torch.Tensor, scale: float
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

    def __call__(
        self, output: torch.Tensor, channels: int, keeps_variance: bool = False
    ) -> torch.Tensor:
        """The prediction [1, channels, ...], with the variance's channels after it where kept.

        Args:
            output: [rows, channels, ...], or with channels for a variance after those.
            channels: of the latent.
            keeps_variance: whether the sampler reads the variance; it is the conditional row's.
        """
        prediction, variance = output[:, :channels], output[-1:, channels:]
        if len(output) == 2:
            prediction = self.rule(prediction[:1], prediction[1:], self.scale)
        return torch.cat([prediction, variance], dim=1) if keeps_variance else prediction
