"""DDPM, arXiv 2006.11239, as one formula whose coefficients are known when a job is admitted."""

from dataclasses import dataclass
from typing import Any

import torch

from services.samplers.noise import draw
from services.samplers.sampler import Sampler

VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")
PREDICTIONS = ("epsilon", "sample", "v_prediction")


@dataclass(frozen=True)
class Coefficients:
    """Of one step from t to the timestep after it; alpha and beta are cumulated products."""

    signal: float
    """sqrt(alpha_t)."""
    noise: float
    """sqrt(1 - alpha_t)."""
    original: float
    """Of the predicted original sample, in the posterior's mean: eq. 7."""
    latent: float
    """Of the latent, in the posterior's mean: eq. 7."""
    deviation: float
    """Of the noise that is added, where it is fixed; 0 at the last step."""
    least_log: float
    """Logarithm of the least variance, where the network says which it is."""
    most_log: float
    """Logarithm of the largest, likewise."""


class DDPM(Sampler):
    """The posterior's mean plus noise, without a read of the device's data."""

    def __init__(
        self, scheduler: Any, steps: int, strength: float = 1.0, eta: float | None = None
    ) -> None:
        super().__init__(scheduler, steps, strength, eta)
        self._steps = [_coefficients(scheduler, timestep) for timestep in self.timesteps]

    @classmethod
    def takes(cls, scheduler: Any) -> bool:
        """Whether the formula is this scheduler's: thresholding by quantiles is not."""
        config = scheduler.config
        return (
            config.variance_type in VARIANCES
            and config.prediction_type in PREDICTIONS
            and not config.thresholding
        )

    def step(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        at, config = self._steps[step], self.scheduler.config
        channels = latent.shape[1]
        prediction, variance = output[:, :channels], output[:, channels:]
        original = _original_sample(config.prediction_type, prediction, latent, at)
        if config.clip_sample:
            original = original.clamp(-config.clip_sample_range, config.clip_sample_range)
        mean = at.original * original + at.latent * latent
        if self.timesteps[step] == 0:
            return mean
        noise = draw(prediction.shape, generator, prediction)
        if config.variance_type != "learned_range":
            return mean + at.deviation * noise
        share = (variance + 1) / 2
        log_variance = share * at.most_log + (1 - share) * at.least_log
        return mean + torch.exp(0.5 * log_variance) * noise


def _original_sample(
    kind: str, prediction: torch.Tensor, latent: torch.Tensor, at: Coefficients
) -> torch.Tensor:
    if kind == "sample":
        return prediction
    if kind == "v_prediction":
        return at.signal * latent - at.noise * prediction
    return (latent - at.noise * prediction) / at.signal


def _coefficients(scheduler: Any, timestep: torch.Tensor) -> Coefficients:
    """From the scheduler's own tables, in their precision."""
    later = int(scheduler.previous_timestep(timestep))
    alpha = scheduler.alphas_cumprod[timestep]
    alpha_later = scheduler.alphas_cumprod[later] if later >= 0 else scheduler.one
    beta, beta_later = 1 - alpha, 1 - alpha_later
    kept = alpha / alpha_later
    added = 1 - kept
    least = torch.clamp(beta_later / beta * added, min=1e-20)
    fixed = {
        "fixed_small": least**0.5,
        "fixed_small_log": torch.exp(0.5 * torch.log(least)),
        "fixed_large": added**0.5,
    }
    return Coefficients(
        signal=float(alpha**0.5),
        noise=float(beta**0.5),
        original=float(alpha_later**0.5 * added / beta),
        latent=float(kept**0.5 * beta_later / beta),
        deviation=float(fixed.get(scheduler.config.variance_type, 0.0)),
        least_log=float(torch.log(least)),
        most_log=float(torch.log(added)),
    )
