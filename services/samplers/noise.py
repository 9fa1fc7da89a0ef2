"""Random numbers from a job's own generator, and their way to the device."""

from collections.abc import Sequence

import torch


def draw(shape: Sequence[int], generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, the same on every device.

    Args:
        shape: of the result.
        generator: on the CPU.
        like: has the device and the dtype.
    """
    return to_device(torch.randn(tuple(shape), generator=generator, dtype=like.dtype), like)


def to_device(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A host's tensor on the device of `like`; the host goes on before the copy is made.

    Args:
        tensor: on any device.
        like: has the device.
    """
    if like.is_cuda and not tensor.is_cuda:
        tensor = tensor.pin_memory()  # else the copy waits for all that the device has to do
    return tensor.to(like.device, non_blocking=True)
