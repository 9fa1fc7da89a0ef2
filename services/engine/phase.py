"""What a model family gives the engine: which networks a job passes, in which order.

A job is a list of phases. Each phase takes a latent through one network step by step: the denoising
loop of a prior or a decoder, or a single pass such as decoding a latent to an image. The value that
a phase ends with is what the next one begins from.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch

from services.engine.snapshot import Snapshot, SnapshotRefused


class Network(ABC):
    """One network. Jobs whose phases hold the same Network object may share its forward."""

    name: str

    @abstractmethod
    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """One forward pass.

        Args:
            inputs: [rows, ...].
            timesteps: [rows], each row's own.
            conditioning: named tensors [rows, ...].

        Returns:
            [rows, ...]; a row depends on its own inputs alone.
        """


class Phase(ABC):
    """A job's latent on its way through one network.

    The defaults are those of a phase that keeps no state from step to step, has one row and makes
    no previews.
    """

    name: str
    network: Network
    rows: int
    """Rows that the job has in each forward: 2 with classifier-free guidance, else 1."""
    latent_area: int
    """Height times width of one row's latent; 1 for an embedding."""
    timesteps: Sequence[torch.Tensor]
    """One scalar for each step."""
    conditioning: Mapping[str, torch.Tensor]
    """Named tensors [rows, ...], the same at every step; the unconditional row comes first."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that change the network's weights for this job."""

    @abstractmethod
    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """The latent [1, ...] before the first step.

        Args:
            value: what the phase before ended with; None in the first.
            generator: the job's own, on the CPU.
        """

    @abstractmethod
    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        """What the network sees of the latent at a step: [1, ...]."""

    def predict(self, output: torch.Tensor, latent: torch.Tensor, step: int) -> torch.Tensor:
        """The job's prediction [1, ...], computed once a step: the output itself.

        Args:
            output: the network's output for the job's rows, [rows, ...].
            latent: [1, ...], before the step.
            step: index into `timesteps`.
        """
        return output

    def preview(
        self, prediction: torch.Tensor, latent: torch.Tensor, step: int
    ) -> torch.Tensor | None:
        """The predicted original sample as an image, uint8 [h, w, 3]: None, no preview.

        Arguments as those of `advance`, before which it is called.
        """
        return None

    @abstractmethod
    def advance(
        self, prediction: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        """The latent after a step, or the phase's result after the last.

        Args:
            prediction: from `predict`.
            latent: [1, ...], before the step.
            step: index into `timesteps`.
            generator: the job's own, on the CPU.
        """

    def outputs(self, value: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """The job's named outputs where this phase is the last: its value alone.

        Args:
            value: [1, ...], what the phase ended with.
        """
        return {"latents": value}

    def state(self) -> Mapping[str, torch.Tensor]:
        """What the phase keeps from step to step beside latent and generator: nothing."""
        return {}

    def accept(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot that a request brings, in this replica's dtypes; called before `begin`.

        Args:
            snapshot: of this phase by its index, its step from 1 to the last but one.

        Raises:
            SnapshotRefused: latent or state are none that this phase can have at that step; here,
                any state at all.
        """
        if snapshot.state:
            raise SnapshotRefused("state", "this phase keeps none")
        return snapshot

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over the state of an accepted snapshot; called after `begin`.

        Raises:
            ValueError: there is any, and the phase keeps none.
        """
        if state:
            raise ValueError(f"{self.name} keeps no state between steps")
