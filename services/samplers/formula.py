"""A step of the hot samplers: one formula over all rows.

Each of them predicts the original sample from the latent and the network's output, and goes on to a
sum of what it has, in whose coefficients alone they differ:

    original = bounded((latent_share * latent - output_share * output) / divisor)
    after    = a * original + b * latent + c * output + d * previous original + deviation * noise
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from services.device.copies import to_device
from services.samplers.coefficients import Coefficients, Threshold
from services.samplers.row_sampler import LATENT, RowSampler

if TYPE_CHECKING:
    from services.samplers.table_sampler import TableSampler

ORIGINAL = "original"
"""Name of the predicted original sample, where a sampler keeps it from step to step."""


@dataclass(frozen=True)
class StepFormula(RowSampler):
    """The formula, computed in float32 at the least; samplers with equal ones step together."""

    learned_variance: bool = False
    """Whether the network's output says the variance, in channels after the prediction's: it is
    between the two in the logarithm, arXiv 2102.09672 eq. 15."""
    threshold: Threshold | None = None
    scales_input: bool = False
    """Whether the network sees the latent scaled."""
    keeps_original: bool = False
    """Whether a step needs the original sample that the one before it predicted."""

    def at(
        self,
        samplers: Sequence["TableSampler"],
        steps: Sequence[int],
        generators: Sequence[torch.Generator],
        like: torch.Tensor,
    ) -> Coefficients:
        """The coefficients of each sampler's step, in one copy."""
        lines = [sampler.table[step] for sampler, step in zip(samplers, steps, strict=True)]
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        columns = torch.tensor(np.stack(lines, axis=1).astype(dtype))
        columns = columns.view(*columns.shape, *[1] * (like.dim() - 1))
        return Coefficients(*to_device(columns, like).unbind())

    def draws(self, sampler: "TableSampler", step: int) -> bool:
        return bool(sampler.draws[step])

    def scale_input(self, at: Coefficients, latent: torch.Tensor) -> torch.Tensor:
        if not self.scales_input:
            return latent
        scaled: torch.Tensor = latent * at.input_scale
        return scaled.to(latent.dtype)

    def original(
        self, at: Coefficients, latent: torch.Tensor, output: torch.Tensor
    ) -> torch.Tensor:
        return at.predicted(latent, output)

    def step(
        self,
        at: Coefficients,
        state: Mapping[str, torch.Tensor],
        output: torch.Tensor,
        noise: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        latent = state[LATENT]
        channels = latent.shape[1]
        prediction = output.narrow(1, 0, channels)
        original = self.original(at, latent, prediction)
        if self.threshold is not None:
            original = self.threshold(original)
        else:
            original = torch.clamp(original, -at.clip, at.clip)
        after = at.original * original + at.latent * latent + at.output * prediction
        if self.keeps_original:
            after = after + at.previous * state[ORIGINAL]
        if noise is not None:
            after = after + self._deviation(at, output) * noise
        kept = {ORIGINAL: original} if self.keeps_original else {}
        return {LATENT: after.to(latent.dtype), **kept}

    def noise_after(
        self, at: Coefficients, clean: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        found: torch.Tensor = at.signal_after * clean + at.noise_after * noise
        return found

    def _deviation(self, at: Coefficients, output: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = at.deviation
        if not self.learned_variance:
            return found
        channels = output.shape[1] // 2
        share = (output.narrow(1, channels, channels) + 1) / 2
        log_variance = share * at.most_log + (1 - share) * at.least_log
        # The deviation in the table is 1 then, and 0 where no noise is added.
        return found * torch.exp(0.5 * log_variance)

    def begun(self, latent: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self.keeps_original:
            return {LATENT: latent}
        dtype = torch.promote_types(latent.dtype, torch.float32)
        return {LATENT: latent, ORIGINAL: torch.zeros_like(latent, dtype=dtype)}
