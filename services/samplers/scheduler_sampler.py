"""Samplers that have no table here: the scheduler's own object takes a job's steps."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from services.samplers import scheduler_state
from services.samplers.coefficients import Coefficients, prediction
from services.samplers.row_sampler import LATENT, RowSampler
from services.samplers.sampler import GivenLevels, Sampler

BY_SIGMA = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
)
"""Classes whose latent is the clean one plus noise times sigma; the others keep its variance."""


class SchedulerSampler(Sampler):
    """One job's scheduler; arguments and errors are those of Sampler."""

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        strength: float = 1.0,
        eta: float | None = None,
        given: GivenLevels | None = None,
    ) -> None:
        super().__init__(scheduler, steps, strength, eta, given)
        known = inspect.signature(scheduler.step).parameters
        self.takes_generator = "generator" in known
        self.takes_prev_timestep = "prev_timestep" in known
        self.options = {} if eta is None else {"eta": eta}
        self.rows: RowSampler = OneScheduler()
        self._before = scheduler_state.attributes(scheduler)
        self._arguments = steps, strength, eta, given

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.scheduler.add_noise(clean, noise, self.timesteps[:1])
        return found

    def saved(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return scheduler_state.state(self.scheduler, self._before)

    def accept(
        self, saved: Mapping[str, torch.Tensor], step: int, latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return scheduler_state.accept(saved, self._state_at(step, latent.dtype), latent.shape)

    def restore(
        self, saved: Mapping[str, torch.Tensor], latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        scheduler_state.restore(self.scheduler, saved, latent)
        return {LATENT: latent}

    def _state_at(self, step: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """What the scheduler keeps at a step: another one takes them on a latent of one element."""
        fresh = type(self.scheduler).from_config(self.scheduler.config)
        sampler = SchedulerSampler(fresh, *self._arguments)
        state = {LATENT: torch.zeros(1, 1, 1, 1, dtype=dtype)}
        output = torch.zeros(1, 2 if sampler.reads_variance else 1, 1, 1, dtype=dtype)
        generators = [torch.Generator("cpu")]
        for place in range(step):
            at = sampler.rows.at([sampler], [place], generators, state[LATENT])
            sampler.rows.scale_input(at, state[LATENT])
            state = sampler.rows.step(at, state, output, None)
            if not sampler.saved(state):  # what keeps nothing after its first step never does
                break
        return sampler.saved(state)


class Place(NamedTuple):
    """Where the one job is."""

    sampler: SchedulerSampler
    step: int
    generator: torch.Generator


class OneScheduler(RowSampler):
    """Takes one sampler's steps: no two of these are equal."""

    def at(
        self,
        samplers: Sequence[SchedulerSampler],
        steps: Sequence[int],
        generators: Sequence[torch.Generator],
        like: torch.Tensor,
    ) -> Place:
        return Place(samplers[0], steps[0], generators[0])

    def draws(self, sampler: SchedulerSampler, step: int) -> bool:
        """No: the scheduler draws for itself."""
        return False

    def begun(self, latent: torch.Tensor) -> dict[str, torch.Tensor]:
        return {LATENT: latent}

    def scale_input(self, at: Place, latent: torch.Tensor) -> torch.Tensor:
        timestep = at.sampler.timesteps[at.step]
        found: torch.Tensor = at.sampler.scheduler.scale_model_input(latent, timestep)
        return found

    def step(
        self,
        at: Place,
        state: Mapping[str, torch.Tensor],
        output: torch.Tensor,
        noise: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        sampler, timesteps = at.sampler, at.sampler.timesteps
        options: dict[str, Any] = dict(sampler.options)
        if sampler.takes_generator:
            options["generator"] = at.generator
        if sampler.takes_prev_timestep and at.step + 1 < len(timesteps):
            options["prev_timestep"] = timesteps[at.step + 1]
        latent = state[LATENT]
        stepped = sampler.scheduler.step(output, timesteps[at.step], latent, **options)
        return {LATENT: stepped.prev_sample.to(latent.dtype)}

    def original(self, at: Place, latent: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        scheduler = at.sampler.scheduler
        if type(scheduler).__name__ in BY_SIGMA:
            signal, noise = 1.0, self._sigma(scheduler)
        else:
            cumulated = scheduler.alphas_cumprod[at.sampler.timesteps[at.step].long()]
            signal, noise = float(cumulated**0.5), float((1 - cumulated) ** 0.5)
        kind = scheduler.config.get("prediction_type", "epsilon")
        return Coefficients(**prediction(kind, signal, noise)).predicted(latent, output)

    @staticmethod
    def _sigma(scheduler: Any) -> float:
        """Of the latent that the network has just read."""
        is_half_way = not getattr(scheduler, "state_in_first_order", True)
        # Heun's second pass is at the end of its step, KDPM2's between the two.
        sigmas = getattr(scheduler, "sigmas_interpol", None) if is_half_way else None
        found = (scheduler.sigmas if sigmas is None else sigmas)[scheduler.step_index]
        return float(found)

    def noise_after(self, at: Place, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        timesteps = at.sampler.timesteps
        if at.step + 1 == len(timesteps):
            return clean
        later = timesteps[at.step + 1 : at.step + 2]
        found: torch.Tensor = at.sampler.scheduler.add_noise(clean, noise, later)
        return found
