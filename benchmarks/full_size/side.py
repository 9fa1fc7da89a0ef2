"""What every side of the comparison answers to."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Embeds:
    """The image embedding that all images follow, and the negative one: [1, width]."""

    positive: torch.Tensor
    negative: torch.Tensor

    @classmethod
    def random(cls, width: int, like: torch.Tensor, seed: int = 0) -> "Embeds":
        """The same ones for the same seed."""
        generator = torch.Generator("cpu").manual_seed(seed)
        rows = torch.randn(2, width, generator=generator).to(like.device, like.dtype)
        return cls(rows[:1], rows[1:])


@dataclass(frozen=True)
class Made:
    """Images on the host, and how long each took."""

    latencies: tuple[float, ...]
    """Seconds, one an image."""
    images: tuple[np.ndarray, ...]
    """uint8 [H, W, 3]."""


class Side(ABC):
    """One way to make images."""

    @abstractmethod
    def make(self, count: int, pixels: int, steps: int) -> Made:
        """Makes square images, and returns once they are on the host."""

    def close(self) -> None:  # noqa: B027 - most have none
        """Lets go of threads."""
