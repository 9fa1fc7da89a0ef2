"""Copies between host and device for which neither waits: through page-locked memory."""

from collections.abc import Mapping

import torch


def to_device(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A host's tensor on the device of `like`; the host goes on before the copy is made.

    Args:
        tensor: on any device.
        like: has the device.
    """
    if like.is_cuda and not tensor.is_cuda:
        # Else the copy waits for all that the device has to do.
        tensor = torch.empty_like(tensor, pin_memory=True).copy_(tensor)
    return tensor.to(like.device, non_blocking=True)


class HostCopy:
    """Tensors on their way to the host, behind all work that the device was given before.

    Args:
        tensors: by name, on any device.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = {name: _begin_copy(tensor) for name, tensor in tensors.items()}
        self._copied: torch.cuda.Event | None = None
        if any(tensor.is_cuda for tensor in tensors.values()):
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def is_complete(self) -> bool:
        """Whether `wait` would return at once."""
        return self._copied is None or self._copied.query()

    def wait(self) -> dict[str, torch.Tensor]:
        """The tensors on the host, by name; waits for the device. From any thread."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensors


def _begin_copy(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
