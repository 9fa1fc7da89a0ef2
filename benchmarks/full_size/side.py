"""What every side of the comparison answers to."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class Embeds:
    """The image embedding that all pictures follow, and the negative one: [1, width]."""

    positive: torch.Tensor
    negative: torch.Tensor

    @property
    def like(self) -> torch.Tensor:
        """Has the networks' device and dtype."""
        return self.positive

    @classmethod
    def random(cls, width: int, like: torch.Tensor, seed: int = 0) -> "Embeds":
        """The same ones for the same seed."""
        generator = torch.Generator("cpu").manual_seed(seed)
        rows = torch.randn(2, width, generator=generator).to(like.device, like.dtype)
        return cls(rows[:1], rows[1:])


@dataclass(frozen=True)
class Made:
    """Pictures on the host, and how long each took."""

    latencies: tuple[float, ...]
    """Seconds, one a picture."""
    pictures: tuple[np.ndarray, ...]
    """uint8 [H, W, 3]."""


class Side(Protocol):
    """One way to make pictures."""

    def make(self, count: int, pixels: int, steps: int) -> Made:
        """Makes square pictures, and returns once they are on the host."""
        ...

    def close(self) -> None:
        """Lets go of threads."""
        ...
