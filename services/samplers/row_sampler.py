"""What takes the steps of several samplers at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

LATENT = "latent"
"""Name of the latent among what a job carries from step to step."""


class RowSampler(ABC):
    """Takes the steps of all samplers that name an equal one, over tensors [J, ...] of J jobs."""

    @abstractmethod
    def at(
        self,
        samplers: Sequence[Any],
        steps: Sequence[int],
        generators: Sequence[torch.Generator],
        like: torch.Tensor,
    ) -> Any:
        """Where each job is: what the other methods take as `at`.

        Args:
            samplers: of the jobs.
            steps: index into the timesteps of each.
            generators: of the jobs.
            like: has the latents' device, dtype and number of axes.
        """

    @abstractmethod
    def draws(self, sampler: Any, step: int) -> bool:
        """Whether a step takes noise from `step`'s argument."""

    @abstractmethod
    def begun(self, latent: torch.Tensor) -> dict[str, torch.Tensor]:
        """What a job carries before its first step: its latent [1, ...], and what else is kept."""

    @abstractmethod
    def scale_input(self, at: Any, latent: torch.Tensor) -> torch.Tensor:
        """What the network sees of the latents."""

    @abstractmethod
    def step(
        self,
        at: Any,
        state: Mapping[str, torch.Tensor],
        output: torch.Tensor,
        noise: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """What the jobs carry after the step.

        Args:
            at: where each job is.
            state: before it.
            output: the guided predictions; with the variance's channels where they are read.
            noise: [J, ...], zeros where a job's step takes none; None where no job's does.
        """

    @abstractmethod
    def original(self, at: Any, latent: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The clean latents that predictions lead to, not bounded.

        Args:
            at: where each job is.
            latent: before the step.
            output: the guided predictions, without variance.
        """

    @abstractmethod
    def noise_after(self, at: Any, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Clean latents as they would be after the step, with that noise; after the last, clean."""
