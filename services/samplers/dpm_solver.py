"""DPM-Solver++, arXiv 2211.01095: multistep, of order 1 and 2."""

from math import exp, inf, log
from typing import Any

from services.samplers.coefficients import Coefficients, prediction
from services.samplers.ddpm import PREDICTIONS
from services.samplers.formula import StepFormula
from services.samplers.table_sampler import Level, TableSampler

FEW = 15
"""Steps below which `lower_order_final` ends with a step of order 1."""


class DPMSolver(TableSampler):
    """after = s'/s * latent - a' * (exp(-h) - 1) * D, algorithm 2, with h the step in log(a/s).

    a and s are the signal and the noise in a latent. D is the predicted original sample at order 1;
    at order 2 the one before is drawn on, as the solver's type says.
    """

    @classmethod
    def takes(cls, scheduler: Any) -> bool:
        config = scheduler.config
        return (
            config.algorithm_type == "dpmsolver++"
            and config.solver_order <= 2
            and config.solver_type in ("midpoint", "heun")
            and config.prediction_type in PREDICTIONS
            and config.variance_type is None
            and not config.get("use_flow_sigmas")
        )

    def _formula(self) -> StepFormula:
        keeps = self.scheduler.config.solver_order == 2
        return StepFormula(threshold=self._threshold(), keeps_original=keeps)

    def _level(self, place: int) -> Level:
        alpha, sigma = self.scheduler._sigma_to_alpha_sigma_t(self.scheduler.sigmas[place])
        return float(alpha), float(sigma)

    def _levels(self) -> list[Level]:
        first = self.scheduler.begin_index
        return [self._level(first + step) for step in range(len(self.timesteps))]

    def _line(self, step: int) -> Coefficients:
        config = self.scheduler.config
        place = self.scheduler.begin_index + step
        (signal, noise), (signal_after, noise_after) = self._level(place), self._level(place + 1)
        h = _half_log_ratio(signal_after, noise_after) - _half_log_ratio(signal, noise)
        first = -signal_after * (exp(-h) - 1)
        now, before = first, 0.0
        if step and config.solver_order == 2 and not self._ends_low(place):
            back = _half_log_ratio(signal, noise) - _half_log_ratio(*self._level(place - 1))
            slope = first / 2
            if config.solver_type == "heun" and h:
                slope = signal_after * ((exp(-h) - 1) / h + 1)
            now, before = first + slope * h / back, -slope * h / back
        return Coefficients(
            **prediction(config.prediction_type, signal, noise),
            original=now,
            latent=noise_after / noise,
            previous=before,
        )

    def _ends_low(self, place: int) -> bool:
        """Whether this is a last step of order 1."""
        config, steps = self.scheduler.config, len(self.scheduler.timesteps)
        return place == steps - 1 and (
            config.euler_at_final
            or (config.lower_order_final and steps < FEW)
            or config.final_sigmas_type == "zero"
        )


def _half_log_ratio(signal: float, noise: float) -> float:
    """Half the logarithm of the signal-to-noise ratio."""
    return log(signal) - log(noise) if noise else inf
