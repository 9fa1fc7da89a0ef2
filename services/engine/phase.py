"""What a model family tells the engine: which networks a job passes, in which order.

A job is a list of phases. Each phase is a walk of a latent through one network: the denoising
loop of a prior or a decoder, or a single pass such as decoding a latent to pixels. The value
that a phase ends with is what the next one begins from.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from kandinsky.wire.errors import invalid
from services.engine.snapshot import Snapshot


class Network(Protocol):
    """One network. Jobs whose phases hold the same Network object may share its forward."""

    name: str

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
        ...


class Phase(Protocol):
    """One walk of a job's latent through a network."""

    name: str
    network: Network
    rows: int
    """Rows that the job has in each forward: 2 with classifier-free guidance, else 1."""
    latent_area: int
    """Latent area of one row, h * w; 1 for an embedding."""
    timesteps: Sequence[torch.Tensor]
    """One scalar for each step."""
    conditioning: Mapping[str, torch.Tensor]
    """Named tensors [rows, ...], the same at every step; the unconditional row comes first."""

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """The latent [1, ...] before the first step.

        Args:
            value: what the phase before ended with; None in the first.
            generator: the job's own, on the CPU.
        """
        ...

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        """What the network sees of the latent at a step: [1, ...]."""
        ...

    def advance(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        """The latent after a step, or the phase's result after the last.

        Args:
            output: the network's output for the job's rows, [rows, ...].
            latent: [1, ...], before the step.
            step: index into `timesteps`.
            generator: the job's own, on the CPU.
        """
        ...

    def state(self) -> Mapping[str, torch.Tensor]:
        """What the phase keeps from step to step beside latent and generator; often nothing."""
        ...

    def accept(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot that a request brings, in this replica's dtypes; called before `begin`.

        Args:
            snapshot: of this phase by its index, its step from 1 to the last but one.

        Raises:
            KandinskyError: INVALID_FIELD if latent or state are none that this phase can have at
                that step.
        """
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over the state of an accepted snapshot; called after `begin`."""
        ...

    def preview(self, output: torch.Tensor, latent: torch.Tensor, step: int) -> torch.Tensor | None:
        """The picture as it can be foreseen at a step, uint8 [h, w, 3]; None where it cannot.

        Arguments as those of `advance`, before which it is called.
        """
        ...


class Stateless:
    """What a phase answers that keeps nothing from step to step and foresees nothing."""

    def state(self) -> Mapping[str, torch.Tensor]:
        """Nothing."""
        return {}

    def accept(self, snapshot: Snapshot) -> Snapshot:
        """Refuses any state."""
        if snapshot.state:
            raise invalid("resume_from.scheduler_state", "this sampler keeps none")
        return snapshot

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing to take over."""

    def preview(self, output: torch.Tensor, latent: torch.Tensor, step: int) -> torch.Tensor | None:
        """None."""
        return None


def classifier_free_guidance(output: torch.Tensor, scale: float) -> torch.Tensor:
    """uncond + scale * (cond - uncond): arXiv 2207.12598 eq. 6 with w = scale - 1.

    Takes the unconditional and the conditional row [2, ...], gives [1, ...].
    """
    unconditional, conditional = output.chunk(2)
    return unconditional + scale * (conditional - unconditional)
