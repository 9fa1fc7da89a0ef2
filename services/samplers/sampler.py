"""One job's noise schedule."""

import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import diffusers
import torch

from services.samplers.row_sampler import RowSampler
from services.samplers.schedulers import SettingRefused


@dataclass(frozen=True)
class GivenLevels:
    """Where a job's steps are, in place of what the scheduler would choose."""

    setting: Literal["timesteps", "sigmas"]
    values: tuple[float, ...]
    """One for each step, in falling order."""


class Sampler(ABC):
    """The timesteps that a job takes, and what takes its steps.

    Args:
        scheduler: of diffusers, of this job alone.
        steps: that the noise levels are divided into.
        strength: share of the steps that is taken, the last ones.
        eta: DDIM's, from 0 to 1; None for the scheduler's default.
        given: as many levels as steps; None for the scheduler's own.

    Raises:
        SettingRefused: the strength leaves no step, the scheduler has no eta, or the steps are more
            than it can divide its noise levels into.
    """

    rows: RowSampler
    """Takes the steps of all jobs whose samplers have an equal one."""

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        strength: float = 1.0,
        eta: float | None = None,
        given: GivenLevels | None = None,
    ) -> None:
        known = inspect.signature(scheduler.step).parameters
        self.scheduler = scheduler
        self.eta = eta
        if eta is not None and "eta" not in known:
            raise SettingRefused("eta", f"{type(scheduler).__name__} has none")
        if eta is not None and not 0 <= eta <= 1:  # false for NaN
            raise SettingRefused("eta", "must be from 0 to 1")
        taken = int(steps * strength)
        if not taken:
            rule = f"{strength:g} of {steps} steps leaves none; raise either"
            raise SettingRefused("strength", rule)
        if given is None and not _divides(scheduler, steps):
            levels = range(scheduler.config.num_train_timesteps, 0, -1)
            most = next((count for count in levels if _divides(scheduler, count)), 0)
            rule = f"{steps} are too many for {type(scheduler).__name__}; the most is {most}"
            raise SettingRefused("steps", rule)
        if given is None:
            scheduler.set_timesteps(steps)
        else:
            _set_levels(scheduler, given)
        self.timesteps: torch.Tensor = _last(scheduler, steps, taken)
        """On the host, one for each pass of the network; Heun has two to a step."""
        self._initial_noise = float(scheduler.init_noise_sigma)

    @property
    def reads_variance(self) -> bool:
        """Whether steps read the network's variance channels after the prediction's."""
        kind: str | None = self.scheduler.config.get("variance_type")
        return kind in ("learned", "learned_range")

    def initial_latents(self, noise: torch.Tensor) -> torch.Tensor:
        """The latent before the first step where it is noise alone."""
        return noise * self._initial_noise

    @abstractmethod
    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """A clean latent as it would be before the first step."""

    @abstractmethod
    def saved(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What goes on from step to step beside the latent, by name.

        Args:
            state: what the job carries.
        """

    @abstractmethod
    def accept(
        self, saved: Mapping[str, torch.Tensor], step: int, latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """A state that a request brings, checked against what is kept at that step.

        Args:
            saved: from `saved` of another sampler for the same request, or what claims to be.
            step: steps taken.
            latent: [1, ...], after them.

        Raises:
            StateRefused: that is no state of this sampler at that step.
        """

    @abstractmethod
    def restore(
        self, saved: Mapping[str, torch.Tensor], latent: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What the job carries from there on.

        Args:
            saved: from `accept`.
            latent: [1, ...], of the snapshot.
        """


def _set_levels(scheduler: Any, given: GivenLevels) -> None:
    """Have a scheduler step at given levels.

    Raises:
        SettingRefused: it chooses its own, or cannot have these.
    """
    levels, values = scheduler.config.num_train_timesteps, [*given.values]
    name = type(scheduler).__name__
    if given.setting not in inspect.signature(scheduler.set_timesteps).parameters:
        raise SettingRefused(given.setting, f"{name} chooses its own")
    if any(later >= one for one, later in itertools.pairwise(values)):
        raise SettingRefused(given.setting, "must be in falling order")
    if given.setting == "timesteps" and values[0] >= levels:
        raise SettingRefused(given.setting, f"must be below {levels}")
    try:
        scheduler.set_timesteps(**{given.setting: values})
    except (ValueError, IndexError) as error:
        raise SettingRefused(given.setting, f"{name} cannot have these: {error}") from error


def _divides(scheduler: Any, steps: int) -> bool:
    """Whether a scheduler has so many distinct noise levels, all within its table."""
    levels: int = scheduler.config.num_train_timesteps
    if steps > levels:
        return False
    try:
        scheduler.set_timesteps(steps)  # to look at: on the device that would wait for it
    except ValueError:  # as of LCM above the steps that it was distilled from
        return False
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
