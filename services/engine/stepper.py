"""How several jobs take a step at once, between two forwards of their network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from services.engine.stack import LATENT, Stack, State


class Stepper(ABC):
    """Takes the states of a stack through a step. Phases whose steppers are equal share one.

    Everything is computed over all jobs at once, whatever their number: no operation a job, no
    read of the device's data, no branch on it. Called in this order: `inputs`, the network, `draw`,
    `predict`, `preview` where one is due, `advance`.
    """

    @abstractmethod
    def inputs(self, stack: Stack) -> torch.Tensor:
        """What the network sees of each job: [J, ...]."""

    def draw(self, stack: Stack) -> torch.Tensor | None:
        """The noise [J, ...] that the step adds, from each job's generator: none.

        Called once a step, while the device computes the forward.
        """
        return None

    def predict(self, stack: Stack, output: torch.Tensor) -> torch.Tensor:
        """Each job's prediction [J, ...]: the output itself.

        Args:
            stack: the jobs.
            output: the network's, [rows, ...].
        """
        return output

    def preview(
        self, stack: Stack, prediction: torch.Tensor, places: Sequence[int]
    ) -> list[torch.Tensor | None]:
        """The predicted original samples of some jobs as images, uint8 [h, w, 3]: None, no preview.

        Args:
            stack: the jobs.
            prediction: from `predict`.
            places: in the stack, of those whose previews are due.
        """
        return [None] * len(places)

    @abstractmethod
    def advance(self, stack: Stack, prediction: torch.Tensor, noise: torch.Tensor | None) -> State:
        """The states after the step, [J, ...] each; the stack's own stay as they are.

        Args:
            stack: the jobs.
            prediction: from `predict`.
            noise: from `draw`.
        """


class PassThrough(Stepper):
    """A phase of one pass: what the network makes of the latent is the result."""

    def inputs(self, stack: Stack) -> torch.Tensor:
        return stack.latent

    def advance(self, stack: Stack, prediction: torch.Tensor, noise: torch.Tensor | None) -> State:
        return {LATENT: prediction}


PASS_THROUGH = PassThrough()
