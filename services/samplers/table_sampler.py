"""Samplers whose steps are lines of a table."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from services.samplers import scheduler_state
from services.samplers.coefficients import Coefficients, Threshold, table
from services.samplers.formula import StepFormula
from services.samplers.row_sampler import LATENT
from services.samplers.sampler import Sampler

Level = tuple[float, float]
"""How much of the clean latent and how much noise is in a latent."""


class TableSampler(Sampler):
    """Makes the table when a job is admitted; arguments and errors are those of Sampler."""

    def __init__(
        self, scheduler: Any, steps: int, strength: float = 1.0, eta: float | None = None
    ) -> None:
        super().__init__(scheduler, steps, strength, eta)
        self.levels: Sequence[Level] = self._levels()
        after = [*self.levels[1:], (1.0, 0.0)]
        lines = [
            self._line(step)._replace(signal_after=signal, noise_after=noise)
            for step, (signal, noise) in enumerate(after)
        ]
        self.table: np.ndarray = table(lines)
        """[steps, coefficients]"""
        self.draws: Sequence[bool] = [bool(line.deviation) for line in lines]
        """Which steps add noise."""
        self.rows: StepFormula = self._formula()

    @classmethod
    @abstractmethod
    def takes(cls, scheduler: Any) -> bool:
        """Whether the formula is this scheduler's, by its configuration."""

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        signal, share = self.levels[0]
        return signal * clean + share * noise

    def saved(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in state.items() if name != LATENT}

    def accept(
        self, saved: Mapping[str, torch.Tensor], step: int, latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        expected = self.saved(self.rows.begun(latent))
        return scheduler_state.accept(saved, expected, latent.shape)

    def restore(
        self, saved: Mapping[str, torch.Tensor], latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {LATENT: latent, **saved}

    @abstractmethod
    def _line(self, step: int) -> Coefficients:
        """Of one step, without the level after it."""

    def _formula(self) -> StepFormula:
        """How this sampler's steps are computed."""
        return StepFormula(threshold=self._threshold())

    def _threshold(self) -> Threshold | None:
        config = self.scheduler.config
        if not config.get("thresholding"):
            return None
        return Threshold(config.dynamic_thresholding_ratio, config.sample_max_value)

    def _clip(self) -> dict[str, float]:
        config = self.scheduler.config
        return {"clip": config.clip_sample_range} if config.clip_sample else {}

    def _levels(self) -> list[Level]:
        """Before each step: what keeps the variance of the latent, by cumulated alphas."""
        cumulated = self.scheduler.alphas_cumprod[self.timesteps.long()]
        return list(zip((cumulated**0.5).tolist(), ((1 - cumulated) ** 0.5).tolist(), strict=True))


def posterior(alpha: Any, alpha_later: Any, kept: Any, added: Any) -> tuple[float, float]:
    """Coefficients of original sample and latent in the posterior's mean, arXiv 2006.11239 eq. 7.

    Args:
        alpha: cumulated, at the timestep.
        alpha_later: cumulated, at the timestep after it.
        kept: alpha of the step between them.
        added: beta of it.
    """
    beta, beta_later = 1 - alpha, 1 - alpha_later
    return float(alpha_later**0.5 * added / beta), float(kept**0.5 * beta_later / beta)
