"""Euler's method, arXiv 2206.00364 algorithm 2 without churn, and with noise put back each step."""

from typing import Any

from services.samplers.coefficients import Coefficients, prediction
from services.samplers.formula import StepFormula
from services.samplers.table_sampler import Level, TableSampler


class Euler(TableSampler):
    """after = latent + (sigma' - sigma) * (latent - original) / sigma."""

    @classmethod
    def takes(cls, scheduler: Any) -> bool:
        config = scheduler.config
        return config.prediction_type in ("epsilon", "v_prediction") and not config.get(
            "use_flow_sigmas"
        )

    def _formula(self) -> StepFormula:
        return StepFormula(scales_input=True)

    def _levels(self) -> list[Level]:
        first = self.scheduler.begin_index
        sigmas = self.scheduler.sigmas[first : first + len(self.timesteps)]
        return [(1.0, sigma) for sigma in sigmas.tolist()]

    def _line(self, step: int) -> Coefficients:
        place = self.scheduler.begin_index + step
        sigma, after = self.scheduler.sigmas[place : place + 2].tolist()
        up, down = self._split(sigma, after)
        return Coefficients(
            **prediction(self.scheduler.config.prediction_type, 1.0, sigma),
            input_scale=(sigma**2 + 1) ** -0.5,
            original=1 - down / sigma,
            latent=down / sigma,
            deviation=up,
        )

    def _split(self, sigma: float, after: float) -> Level:
        """Noise that a step puts back, and the level that it goes down to."""
        return 0.0, after


class EulerAncestral(Euler):
    """The same down to sqrt(sigma'^2 - up^2), and noise of up put back.

    up^2 = sigma'^2 * (sigma^2 - sigma'^2) / sigma^2, so that the variance is DDPM's.
    """

    def _split(self, sigma: float, after: float) -> Level:
        up = (after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5
        return up, (after**2 - up**2) ** 0.5
