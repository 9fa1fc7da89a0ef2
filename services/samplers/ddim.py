"""DDIM, arXiv 2010.02502."""

from typing import Any

from services.samplers.coefficients import Coefficients, prediction
from services.samplers.ddpm import PREDICTIONS
from services.samplers.table_sampler import TableSampler


class DDIM(TableSampler):
    """after = sqrt(alpha') * original + sqrt(1 - alpha' - sigma^2) * e + sigma * noise, eq. 12.

    sigma = eta * sqrt((1 - alpha') / (1 - alpha) * (1 - alpha / alpha')), eq. 16, where alpha' is
    the timestep's after the step; e is the noise in the latent, as the network predicts it.
    """

    @classmethod
    def takes(cls, scheduler: Any) -> bool:
        return scheduler.config.prediction_type in PREDICTIONS

    def _line(self, step: int) -> Coefficients:
        timestep = self.timesteps[step]
        scheduler, config = self.scheduler, self.scheduler.config
        later = int(timestep) - config.num_train_timesteps // scheduler.num_inference_steps
        alpha = scheduler.alphas_cumprod[timestep]
        alpha_later = (
            scheduler.alphas_cumprod[later] if later >= 0 else scheduler.final_alpha_cumprod
        )
        variance = (1 - alpha_later) / (1 - alpha) * (1 - alpha / alpha_later)
        sigma = (self.eta or 0.0) * variance**0.5
        direction = float((1 - alpha_later - sigma**2) ** 0.5)
        signal, noise = float(alpha**0.5), float((1 - alpha) ** 0.5)
        # e of the latent and of the output.
        of_latent, of_output = {
            "epsilon": (0.0, 1.0),
            "sample": (1 / noise, -signal / noise),
            "v_prediction": (noise, signal),
        }[config.prediction_type]
        return Coefficients(
            **prediction(config.prediction_type, signal, noise),
            **self._clip(),
            original=float(alpha_later**0.5),
            latent=direction * of_latent,
            output=direction * of_output,
            deviation=float(sigma),
        )
