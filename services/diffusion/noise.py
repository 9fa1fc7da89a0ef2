"""Random numbers from jobs' own generators, and their way to the device."""

from collections.abc import Sequence

import torch

from services.device.copies import to_device


def draw(shape: Sequence[int], generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, the same on every device.

    Args:
        shape: of the result.
        generator: on the CPU.
        like: has the device and the dtype.
    """
    return to_device(torch.randn(tuple(shape), generator=generator, dtype=like.dtype), like)


def draw_rows(
    generators: Sequence[torch.Generator | None], like: torch.Tensor
) -> torch.Tensor | None:
    """A row of them from each generator, in one copy; zeros where there is none.

    Args:
        generators: on the CPU.
        like: [J, ...] has device, dtype and shape.

    Returns:
        None where nobody draws.
    """
    if not any(generators):
        return None
    rows = torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda)
    for row, generator in zip(rows.unbind(), generators, strict=True):
        if generator is None:
            row.zero_()
        else:
            torch.randn(row.shape, generator=generator, out=row)
    return to_device(rows, like)
