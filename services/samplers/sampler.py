"""One job's noise scheduler and its denoising schedule."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch

from services.samplers import scheduler_state
from services.samplers.schedulers import SettingRefused

BY_SIGMA = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler")
"""Classes whose latent is the clean one plus noise times sigma; the others keep its variance."""


class Sampler:
    """A noise scheduler of one job, and the timesteps that the job takes.

    Args:
        scheduler: of this job alone; some keep state from step to step.
        steps: that the noise levels are divided into.
        strength: share of the steps that is taken, the last ones.
        eta: DDIM's, from 0 to 1; None for the scheduler's default.

    Raises:
        SettingRefused: the strength leaves no step, the scheduler has no eta, or the steps are more
            than it can divide its noise levels into.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        strength: float = 1.0,
        eta: float | None = None,
    ) -> None:
        known = inspect.signature(scheduler.step).parameters
        self.scheduler = scheduler
        self._takes_generator = "generator" in known
        self._takes_prev_timestep = "prev_timestep" in known
        self._options = {} if eta is None else {"eta": eta}
        if eta is not None and "eta" not in known:
            raise SettingRefused("eta", f"{type(scheduler).__name__} has none")
        if eta is not None and not 0 <= eta <= 1:  # false for NaN
            raise SettingRefused("eta", "must be from 0 to 1")
        taken = int(steps * strength)
        if not taken:
            rule = f"{strength:g} of {steps} steps leaves none; raise either"
            raise SettingRefused("strength", rule)
        if not _divides(scheduler, steps):
            levels = range(scheduler.config.num_train_timesteps, 0, -1)
            most = next((count for count in levels if _divides(scheduler, count)), 0)
            rule = f"{steps} are too many for {type(scheduler).__name__}; the most is {most}"
            raise SettingRefused("steps", rule)
        scheduler.set_timesteps(steps)
        self.timesteps: torch.Tensor = _last(scheduler, steps, taken)
        """On the host, one for each pass of the network; Heun has two to a step."""
        self._before = scheduler_state.attributes(scheduler)
        self._arguments = steps, strength, eta

    @property
    def reads_variance(self) -> bool:
        """Whether `step` reads the network's variance channels after the prediction's."""
        kind: str | None = self.scheduler.config.get("variance_type")
        return kind in ("learned", "learned_range")

    def initial_latents(self, noise: torch.Tensor) -> torch.Tensor:
        """The latent before the first step where it is noise alone."""
        return _tensor(noise * self.scheduler.init_noise_sigma)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """A clean latent as it would be before a step: the first, or the one that comes next."""
        timesteps = self.timesteps[step : step + 1]
        return _tensor(self.scheduler.add_noise(clean, noise, timesteps))

    def scale_model_input(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        """What the network sees of the latent."""
        return _tensor(self.scheduler.scale_model_input(latent, self.timesteps[step]))

    def step(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        """The latent after a step.

        Args:
            output: the guided prediction; with its variance channels where they are read.
            latent: before the step.
            step: index into `timesteps`; `scale_model_input` was called with it.
            generator: of the noise that some schedulers add.
        """
        options: dict[str, Any] = dict(self._options)
        if self._takes_generator:
            options["generator"] = generator
        if self._takes_prev_timestep and step + 1 < len(self.timesteps):
            options["prev_timestep"] = self.timesteps[step + 1]
        stepped = self.scheduler.step(output, self.timesteps[step], latent, **options)
        return _tensor(stepped.prev_sample)

    def predicted_original_sample(
        self, output: torch.Tensor, latent: torch.Tensor, step: int
    ) -> torch.Tensor:
        """The clean latent that a prediction leads to, arXiv 2010.02502 eq. 9 for noise.

        Args:
            output: the guided prediction, without variance.
            latent: before the step.
            step: index into `timesteps`; `scale_model_input` was called with it.
        """
        kind = self.scheduler.config.get("prediction_type", "epsilon")
        if kind == "sample":
            return output
        if type(self.scheduler).__name__ in BY_SIGMA:
            sigma = _tensor(self.scheduler.sigmas[self.scheduler.step_index]).to(latent)
            kept, noise = (1 + sigma**2) ** -0.5, sigma * (1 + sigma**2) ** -0.5
            latent = latent * kept
        else:
            at = self.timesteps[step].long()
            cumulated = _tensor(self.scheduler.alphas_cumprod[at]).to(latent)
            kept, noise = cumulated**0.5, (1 - cumulated) ** 0.5
        if kind == "v_prediction":
            return kept * latent - noise * output
        return (latent - noise * output) / kept

    def state(self) -> dict[str, torch.Tensor]:
        """What the scheduler keeps from step to step."""
        return scheduler_state.state(self.scheduler, self._before)

    def accept(
        self, saved: Mapping[str, torch.Tensor], step: int, latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """A state that a request brings, checked against what the scheduler keeps at that step.

        Args:
            saved: from `state` of another sampler for the same request, or what claims to be.
            step: steps taken.
            latent: [1, ...], after them.

        Raises:
            StateRefused: that is no state of this scheduler at that step.
        """
        return scheduler_state.accept(saved, self._state_at(step, latent.dtype), latent.shape)

    def restore(self, saved: Mapping[str, torch.Tensor], like: torch.Tensor) -> None:
        """Takes over a state from `accept`.

        Args:
            saved: from `accept`.
            like: has the device of the latent.
        """
        scheduler_state.restore(self.scheduler, saved, like)

    def _state_at(self, step: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """What the scheduler keeps at a step: another one takes them on a latent of one element."""
        fresh = type(self.scheduler).from_config(self.scheduler.config)
        sampler = Sampler(fresh, *self._arguments)
        latent = torch.zeros(1, 1, 1, 1, dtype=dtype)
        output = torch.zeros(1, 2 if sampler.reads_variance else 1, 1, 1, dtype=dtype)
        generator = torch.Generator("cpu")
        for place in range(step):
            sampler.scale_model_input(latent, place)
            latent = sampler.step(output, latent, place, generator)
            if not sampler.state():  # what keeps nothing after its first step never does
                break
        return sampler.state()


def _divides(scheduler: Any, steps: int) -> bool:
    """Whether a scheduler has so many distinct noise levels, all within its table."""
    levels: int = scheduler.config.num_train_timesteps
    if steps > levels:
        return False
    scheduler.set_timesteps(steps)  # to look at: on the device that would wait for it
    distinct = scheduler.timesteps.unique()  # sorted
    return len(distinct) >= steps and bool(distinct[-1] < levels)


def _last(scheduler: Any, steps: int, taken: int) -> torch.Tensor:
    """The timesteps of the last steps, with the scheduler's place set to the first of them."""
    if isinstance(scheduler, diffusers.PNDMScheduler) and taken < steps:
        # Its second pass repeats the first step from its end; the table does so at 0 alone.
        tail = scheduler.timesteps[steps + 1 - taken :]
        return torch.cat([tail[:2], tail[1:]])
    first = (steps - taken) * getattr(scheduler, "order", 1)
    if hasattr(scheduler, "set_begin_index"):
        # Without it, those with state look the timestep up, which some list twice.
        scheduler.set_begin_index(first)
    return _tensor(scheduler.timesteps[first:])


def _tensor(value: Any) -> torch.Tensor:
    """What a scheduler of diffusers returns, whose annotations mypy cannot follow."""
    found: torch.Tensor = value
    return found
