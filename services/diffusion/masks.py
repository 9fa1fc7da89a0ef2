"""From a mask in pixels to the latent cells that are kept."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

HALF = 128
"""Of 255 levels, the first that is generated."""
NEIGHBOURS = ((-1, 0), (0, -1), (-1, -1), (1, 0), (0, 1), (1, 1))
"""Row and column offsets of the cells that a hole takes along."""

Cells = Callable[[torch.Tensor, int, int, torch.Tensor], torch.Tensor]
"""As `kept_cells`."""


def kept_cells(mask: torch.Tensor, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """1 where a cell is kept, 0 where it is generated: [1, 1, h, w].

    As `prepare_mask_and_masked_image` and `prepare_mask` of diffusers' Kandinsky inpainting: the
    nearest pixel counts for a cell, and a hole grows to six of a cell's eight neighbours.

    Args:
        mask: uint8 [H, W], white is generated.
        height: latent cells.
        width: latent cells.
        like: has the device and the dtype.
    """
    hole = _hole(mask, height, width, like)
    grown = hole.clone()
    padded = F.pad(hole, (1, 1, 1, 1))
    for row, column in NEIGHBOURS:
        moved = padded[:, :, 1 - row : 1 - row + height, 1 - column : 1 - column + width]
        grown = torch.maximum(grown, moved)
    return (1 - grown).to(like.dtype)


def nearest_cells(mask: torch.Tensor, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """As `kept_cells`, with holes as they are: as `StableDiffusionInpaintPipeline` has them."""
    return (1 - _hole(mask, height, width, like)).to(like.dtype)


def _hole(mask: torch.Tensor, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """float32 [1, 1, h, w]: 1 where the nearest pixel of a cell is generated."""
    hole = (mask >= HALF).to(like.device, torch.float32)[None, None]
    return F.interpolate(hole, (height, width), mode="nearest")
