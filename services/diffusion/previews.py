"""Predicted original samples as small images."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

Previewer = Callable[[torch.Tensor], torch.Tensor]
"""Takes clean latents [rows, C, h, w]; returns images, uint8 [rows, H, W, 3]."""

IMAGES, SIDE, BLOCK = 8, 128, 16
"""What the map is fitted to: so many images of so many pixels a side, in coloured blocks."""


class LinearPreview:
    """One colour for each latent cell, by an affine map fitted to an autoencoder.

    Least squares over images of random coloured blocks: latent channels and 1 on one side, the
    mean colour of the pixels that a latent cell stands for on the other.

    Args:
        encode: images [rows, 3, H, W] from -1 to 1 to latents [rows, C, h, w].
        factor: pixels along one side of a latent cell.
        like: has the autoencoder's device and dtype.
    """

    def __init__(
        self, encode: Callable[[torch.Tensor], torch.Tensor], factor: int, like: torch.Tensor
    ) -> None:
        generator = torch.Generator("cpu").manual_seed(0)
        side = max(SIDE, factor**2)
        blocks = torch.rand(IMAGES, 3, side // BLOCK, side // BLOCK, generator=generator)
        images = F.interpolate(blocks * 2 - 1, size=(side, side)).to(like)
        latents = torch.cat([encode(image[None]) for image in images])
        colours = F.avg_pool2d(images, factor)
        latents, colours = _with_one(_pixels(latents)).cpu(), _pixels(colours).cpu()
        found = torch.linalg.lstsq(latents, colours).solution
        self._map = found.to(like.device)  # [C + 1, 3]

    def __call__(self, latent: torch.Tensor) -> torch.Tensor:
        """uint8 [rows, h, w, 3] of latents [rows, C, h, w]."""
        rows, _, height, width = latent.shape
        values = _with_one(_pixels(latent)).to(self._map) @ self._map
        return as_bytes(values.reshape(rows, height, width, 3) / 2 + 0.5)


def as_bytes(image: torch.Tensor) -> torch.Tensor:
    """Values from 0 to 1 as uint8; what is outside is clipped."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _pixels(image: torch.Tensor) -> torch.Tensor:
    """[rows, C, h, w] as float32 [rows * h * w, C]."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1]).float()


def _with_one(pixels: torch.Tensor) -> torch.Tensor:
    return F.pad(pixels, (0, 1), value=1.0)
