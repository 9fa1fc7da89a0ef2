"""DDPM, arXiv 2006.11239: the posterior's mean, and noise of its variance."""

from typing import Any

import torch

from services.samplers.coefficients import Coefficients, prediction
from services.samplers.formula import StepFormula
from services.samplers.table_sampler import TableSampler, posterior

VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")
PREDICTIONS = ("epsilon", "sample", "v_prediction")


class DDPM(TableSampler):
    """after = mean(original, latent) + sqrt(variance) * noise, eq. 7; no noise at timestep 0."""

    @classmethod
    def takes(cls, scheduler: Any) -> bool:
        config = scheduler.config
        return config.variance_type in VARIANCES and config.prediction_type in PREDICTIONS

    def _formula(self) -> StepFormula:
        return StepFormula(self.reads_variance, self._threshold())

    def _line(self, step: int) -> Coefficients:
        """From the scheduler's own tables, in their precision."""
        scheduler, config = self.scheduler, self.scheduler.config
        timestep = self.timesteps[step]
        later = int(scheduler.previous_timestep(timestep))
        alpha = scheduler.alphas_cumprod[timestep]
        alpha_later = scheduler.alphas_cumprod[later] if later >= 0 else scheduler.one
        kept = alpha / alpha_later
        added = 1 - kept
        of_original, of_latent = posterior(alpha, alpha_later, kept, added)
        least = torch.clamp((1 - alpha_later) / (1 - alpha) * added, min=1e-20)
        deviation = {
            "fixed_small": least**0.5,
            "fixed_small_log": torch.exp(0.5 * torch.log(least)),
            "fixed_large": added**0.5,
            "learned_range": 1.0,
        }[config.variance_type]
        return Coefficients(
            **prediction(config.prediction_type, float(alpha**0.5), float((1 - alpha) ** 0.5)),
            **self._clip(),
            original=of_original,
            latent=of_latent,
            deviation=float(deviation) if timestep > 0 else 0.0,
            least_log=float(torch.log(least)),
            most_log=float(torch.log(added)),
        )
