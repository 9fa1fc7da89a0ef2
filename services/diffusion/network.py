"""Denoising networks: what they read, and what they are called with."""

from abc import abstractmethod
from collections.abc import Mapping

import torch

from services.engine.phase import Network

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of one row of each conditioning tensor, by the field of Conditioning that holds it."""


class DenoisingNetwork(Network):
    """A network that predicts a latent's noise, or the latent itself, from conditioning by name."""

    @abstractmethod
    def shapes(self, height: int, width: int) -> Shapes:
        """What the network reads; every other field is refused.

        Args:
            height: of the image, pixels; 0 where there is none.
            width: likewise.
        """

    @property
    def splits(self) -> bool:
        """Whether steps may leave out its deep part: no; see SplitNetwork."""
        return False

    @property
    def learned(self) -> Mapping[str, torch.Tensor]:
        """What the unconditional side reads where the network has learned it: by field, one row."""
        return {}

    @property
    def guidance_width(self) -> int | None:
        """Width of the embedding by which it reads the guidance scale; None where guidance is of
        its predictions.

        With one, a job has one row, and `guidance_embed` [1, width] beside its conditioning.
        """
        return None

    def with_free_u(self, b1: float, b2: float, s1: float, s2: float) -> "DenoisingNetwork":
        """The network with FreeU, where the family declares it; equal weights give one object."""
        raise NotImplementedError(f"{self.name} has no FreeU")

    @property
    def adapted(self) -> "DenoisingNetwork":
        """The network for rows with adapters, where the family declares them."""
        raise NotImplementedError(f"{self.name} takes no adapters")

    def prepare(self, conditioning: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The conditioning [rows, ...] as the network is called with it, once a job: unchanged."""
        return conditioning

    def calibration_rows(
        self, height: int, width: int, like: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Conditioning of a guided job on zeros, to measure the device with.

        Args:
            height: of the image, pixels.
            width: likewise.
            like: has the device and the dtype.
        """
        count = 2 if self.guidance_width is None else 1
        rows = {
            name: torch.ones(count, *shape, dtype=torch.bool, device=like.device)
            if name.endswith("_mask")
            else torch.zeros(count, *shape).to(like)
            for name, shape in self.shapes(height, width).items()
        }
        if self.guidance_width is not None:
            rows["guidance_embed"] = torch.zeros(count, self.guidance_width).to(like)
        return self.prepare(rows)
