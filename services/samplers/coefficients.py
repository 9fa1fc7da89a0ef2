"""Coefficients of a sampler's steps: a table, known when a job is admitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

UNBOUNDED = float(np.finfo(np.float32).max)
"""As a clipping range: no finite value is outside of it."""


class Coefficients(NamedTuple):
    """Of one step; each a number, or a tensor [J, 1, ...] of J jobs."""

    input_scale: Any = 1.0
    """Of the latent, as the network sees it."""
    latent_share: Any = 1.0
    output_share: Any = 1.0
    divisor: Any = 1.0
    clip: Any = UNBOUNDED
    """The original sample is clipped to the range from -clip to clip."""
    original: Any = 0.0
    latent: Any = 0.0
    output: Any = 0.0
    previous: Any = 0.0
    """Of the original sample that the step before predicted."""
    deviation: Any = 0.0
    """Of the noise that is added, where the network does not say it."""
    least_log: Any = 0.0
    """Logarithm of the least variance, where the network says which it is."""
    most_log: Any = 0.0
    """Logarithm of the largest, likewise."""
    signal_after: Any = 1.0
    """Of a clean latent, at the noise level after the step."""
    noise_after: Any = 0.0
    """Of noise, likewise."""

    def predicted(self, latent: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The original samples that latents and the network's outputs lead to, not bounded."""
        found: torch.Tensor = (
            self.latent_share * latent - self.output_share * output
        ) / self.divisor
        return found


def prediction(kind: str, signal: float, noise: float) -> dict[str, float]:
    """How the original sample follows from what a network of this kind predicts.

    Args:
        kind: `epsilon`, arXiv 2006.11239; `v_prediction`, arXiv 2202.00512 appendix D; `sample`.
        signal: of the original sample in the latent.
        noise: of noise in the latent.
    """
    if kind == "sample":
        return {"latent_share": 0.0, "output_share": -1.0}
    if kind == "v_prediction":
        # In terms of a latent of variance 1, whose parts are the angle's cosine and sine.
        return {
            "latent_share": signal / (signal**2 + noise**2),
            "output_share": noise / (signal**2 + noise**2) ** 0.5,
        }
    return {"output_share": noise, "divisor": signal}


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholding, arXiv 2205.11487: from -s to s and divided by s, each row its own s."""

    ratio: float
    """s is the quantile of the absolute values at this share of them."""
    most: float | None
    """Of s; the least is 1."""

    def __call__(self, original: torch.Tensor) -> torch.Tensor:
        """Bounds the original samples [J, ...]."""
        flat = original.flatten(1)
        # As torch.quantile, which would read whether the ratio is one.
        place = self.ratio * (flat.shape[1] - 1)
        lower = int(place)
        ascending = flat.abs().sort(dim=1).values
        upper = min(lower + 1, flat.shape[1] - 1)
        bound = torch.lerp(
            ascending.narrow(1, lower, 1), ascending.narrow(1, upper, 1), place - lower
        )
        bound = bound.clamp(1.0, self.most)
        return (flat.clamp(-bound, bound) / bound).view_as(original)


def table(steps: Sequence[Coefficients]) -> np.ndarray:
    """A line a step, a column a coefficient; float64."""
    return np.array(steps, dtype=np.float64).reshape(len(steps), len(Coefficients._fields))
