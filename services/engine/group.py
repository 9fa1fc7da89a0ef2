"""Groups: jobs that can share a forward."""

from dataclasses import dataclass

import torch

from services.engine.phase import Network, Phase


@dataclass(frozen=True)
class RowLayout:
    """Shape and dtype of one row of a tensor."""

    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "RowLayout":
        """That of a tensor [rows, ...]."""
        return cls(tensor.shape[1:], tensor.dtype)


@dataclass(frozen=True)
class GroupKey:
    """Jobs with equal keys can share a forward."""

    network: Network
    inputs: RowLayout
    conditioning: tuple[tuple[str, RowLayout], ...] = ()
    adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, phase: Phase, inputs: torch.Tensor) -> "GroupKey":
        """The key of a job in a phase.

        Args:
            phase: at work.
            inputs: what its network sees, [1, ...].
        """
        conditioning = sorted(phase.conditioning.items())
        return cls(
            phase.network,
            RowLayout.of(inputs),
            tuple((name, RowLayout.of(tensor)) for name, tensor in conditioning),
            phase.adapters,
        )
