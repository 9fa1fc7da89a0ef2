"""What a model family gives the engine: which networks a job passes, in which order.

A job is a list of phases. Each phase takes a latent through one network step by step: the denoising
loop of a prior or a decoder, or a single pass such as decoding a latent to an image. The value that
a phase ends with is what the next one begins from.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch

from services.engine.layout import RowLayout
from services.engine.snapshot import Snapshot, SnapshotRefused
from services.engine.stack import LATENT, State
from services.engine.stepper import PASS_THROUGH, Stepper


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


class SplitNetwork(Network):
    """A network whose deep part can be left out, and its output of an earlier step be used."""

    @abstractmethod
    def keeping(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A forward pass, and what its deep part gave: [rows, ...] both."""

    @abstractmethod
    def shallow(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        deep: torch.Tensor,
    ) -> torch.Tensor:
        """A forward pass without the deep part.

        Args:
            inputs: [rows, ...].
            timesteps: [rows].
            conditioning: named tensors [rows, ...].
            deep: from `keeping`, of the same rows at an earlier step.
        """


class Phase(ABC):
    """A job's latent on its way through one network.

    The defaults are those of a single pass.
    """

    name: str
    network: Network
    """Of its first step at the least; see `network_at`."""
    stepper: Stepper = PASS_THROUGH
    """Takes the steps of all jobs whose phases have an equal one."""
    rows: int
    """Rows that the job has in a forward, at most: 2 with classifier-free guidance, else 1."""
    latent_area: int
    """Height times width of one row's latent; 1 for an embedding."""
    timesteps: Sequence[float]
    """One for each step."""
    conditioning: Mapping[str, torch.Tensor]
    """Named tensors [rows, ...], the same at every step; the unconditional row comes first. A
    forward with fewer rows sees the last of them."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that change the network's weights for this job."""

    @abstractmethod
    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        """The state before the first step, [1, ...] each.

        Args:
            value: what the phase before ended with; None in the first.
            generator: the job's own, on the CPU.
        """

    def network_at(self, step: int) -> Network:
        """The network of a step's forward: the same as ever."""
        return self.network

    def layout(self, state: State) -> RowLayout:
        """Of one row of what the network sees: the latent's."""
        return RowLayout.of(state[LATENT])

    def rows_at(self, step: int) -> int:
        """Rows in the forward of a step: as many as ever."""
        return self.rows

    @property
    def stands_alone(self) -> bool:
        """Whether it goes on from a snapshot without what the phase before ended with."""
        return False

    @property
    def keeps_deep(self) -> bool:
        """Whether some of its steps leave out the network's deep part: none. Its network splits."""
        return False

    def is_shallow(self, step: int) -> bool:
        """Whether a step uses what the deep part gave at an earlier one."""
        return False

    def passes(self, done: int = 0) -> Mapping[bool, int]:
        """How many steps are left, of whole passes (False) and of shallow ones (True).

        Args:
            done: steps.
        """
        return {False: len(self.timesteps) - done}

    def cost_at(self, step: int) -> float:
        """Of a step's forward: rows times latent area, less where it is shallow."""
        return self.rows_at(step) * self.latent_area

    def result(self, latent: torch.Tensor) -> torch.Tensor:
        """What the phase ends with, of the latent [1, ...] after the last step: that."""
        return latent

    def outputs(self, value: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """The job's named outputs where this phase is the last: its value alone.

        Args:
            value: [1, ...], what the phase ended with.
        """
        return {"latents": value}

    def saved(self, state: State) -> Mapping[str, torch.Tensor]:
        """What a snapshot holds beside latent and generator: the rest of the state.

        Args:
            state: between two steps.
        """
        return {name: tensor for name, tensor in state.items() if name != LATENT}

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

    def restore(self, snapshot: Snapshot, begun: State) -> State:
        """The state to go on from.

        Args:
            snapshot: accepted.
            begun: from `begin`; empty for a phase that stands alone.
        """
        state = {LATENT: snapshot.latent, **snapshot.state}
        return {name: state[name].to(tensor) for name, tensor in begun.items()}
