"""The sampler of unCLIP, arXiv 2204.06125: DDPM's posterior between any two timesteps."""

from typing import Any

import torch

from services.samplers.coefficients import Coefficients, prediction
from services.samplers.formula import StepFormula
from services.samplers.table_sampler import TableSampler, posterior

VARIANCES = ("fixed_small_log", "learned_range")


class UnCLIP(TableSampler):
    """after = mean(original, latent) + sqrt(variance) * noise, arXiv 2006.11239 eq. 7.

    The last step goes to the timestep below it; no noise is added at timestep 0.
    """

    @classmethod
    def takes(cls, scheduler: Any) -> bool:
        config = scheduler.config
        return config.variance_type in VARIANCES and config.prediction_type in ("epsilon", "sample")

    def _formula(self) -> StepFormula:
        return StepFormula(self.reads_variance)

    def _line(self, step: int) -> Coefficients:
        timestep, *after = self.timesteps[step : step + 2].tolist()
        later = after[0] if after else timestep - 1
        scheduler, config = self.scheduler, self.scheduler.config
        alpha = scheduler.alphas_cumprod[timestep]
        alpha_later = scheduler.alphas_cumprod[later] if later >= 0 else scheduler.one
        if later == timestep - 1:
            added, kept = scheduler.betas[timestep], scheduler.alphas[timestep]
        else:
            added = 1 - alpha / alpha_later
            kept = 1 - added
        of_original, of_latent = posterior(alpha, alpha_later, kept, added)
        variance = (1 - alpha_later) / (1 - alpha) * added
        least = torch.log(torch.clamp(variance, min=1e-20))
        is_learned = config.variance_type == "learned_range"
        deviation = 1.0 if is_learned else float(torch.exp(0.5 * least))
        return Coefficients(
            **prediction(config.prediction_type, float(alpha**0.5), float((1 - alpha) ** 0.5)),
            **self._clip(),
            original=of_original,
            latent=of_latent,
            deviation=deviation if timestep > 0 else 0.0,
            least_log=float(least),
            most_log=float(torch.log(added)),
        )
