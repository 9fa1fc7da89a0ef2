"""What rows must have in common to be stacked."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RowLayout:
    """Shape and dtype of one row of a tensor."""

    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "RowLayout":
        """That of a tensor [rows, ...]."""
        return cls(tensor.shape[1:], tensor.dtype)
