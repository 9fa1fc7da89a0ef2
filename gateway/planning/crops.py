"""Generating only a part of an image, at the size that the model likes, and laying it back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from kandinsky.wire.images import Pixels
from kandinsky.wire.tensors import Array

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""


@dataclass(frozen=True)
class Crop:
    """A box of an image that is generated under a mask."""

    image: Pixels
    """uint8 [H, W, 3], the whole."""
    mask: Pixels
    """uint8 [H, W], the share of new pixels in 255ths: grey blends them with the old."""
    box: Box

    def laid_back(self, pixels: Array) -> Array:
        """The whole image with the new pixels of the box under the mask.

        As `VaeImageProcessor.apply_overlay` of diffusers: what is black stays to the bit, and grey
        is a seam that blends.

        Args:
            pixels: [h, w, 3] of any size, uint8, or float32 from 0 to 1; the answer has its dtype.
        """
        left, top, right, bottom = self.box
        whole: Array = self.image
        if pixels.dtype != np.uint8:
            whole = (self.image / np.float32(255)).astype(pixels.dtype)
        fresh = _covering(pixels, bottom - top, right - left)
        share = self.mask[top:bottom, left:right, None] / np.float32(255)
        old = whole[top:bottom, left:right]
        blended = old * (1 - share) + fresh * share
        result = whole.copy()
        result[top:bottom, left:right] = blended.round() if whole.dtype == np.uint8 else blended
        return result


def box_of(mask: Pixels, padding: int, height: int, width: int) -> Box:
    """The box around whatever is not black in a mask, widened to the canvas's aspect ratio.

    As `VaeImageProcessor.get_crop_region` of diffusers, which Stable Diffusion inpainting calls.

    Args:
        mask: uint8 [H, W], not all black. The faintest grey counts, as there.
        padding: pixels on every side, as far as the image goes.
        height: of the canvas, pixels.
        width: of the canvas, pixels.
    """
    most_y, most_x = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = max(int(rows[0]) - padding, 0), min(int(rows[-1]) + 1 + padding, most_y)
    left, right = max(int(columns[0]) - padding, 0), min(int(columns[-1]) + 1 + padding, most_x)
    if (right - left) / (bottom - top) > width / height:
        top, bottom = _widened(top, bottom, (right - left) * height / width, most_y)
    else:
        left, right = _widened(left, right, (bottom - top) * width / height, most_x)
    return left, top, right, bottom


def _widened(low: int, high: int, length: float, most: int) -> tuple[int, int]:
    """An interval made as long as wanted on both sides, then moved inside 0 to `most`."""
    more = int(length - (high - low))
    low, high = low - more // 2, high + more - more // 2
    low, high = low - max(high - most, 0), high - max(high - most, 0)
    low, high = max(low, 0), high - min(low, 0)
    return low, min(high, most)


def inner_size(height: int, width: int, canvas_height: int, canvas_width: int) -> tuple[int, int]:
    """Height and width of an image that is made as large as it fits into a canvas.

    As `VaeImageProcessor._resize_and_fill` of diffusers. A box that the image's edges cut short has
    another aspect ratio than the canvas.
    """
    if canvas_width / canvas_height < width / height:
        return height * canvas_width // width, canvas_width
    return canvas_height, width * canvas_height // height


def filled(part: Pixels, height: int, width: int) -> Pixels:
    """An image in the middle of a canvas, whose edges fill the rest.

    As `VaeImageProcessor._resize_and_fill` of diffusers, which resizes a box without area at each
    edge; where a rest is odd it leaves the last line black, which here is filled.

    Args:
        part: uint8 [h, w] or [h, w, 3], as high or as wide as the canvas.
        height: of the canvas, pixels.
        width: of the canvas, pixels.
    """
    inner = Image.fromarray(part)
    left, top = width // 2 - inner.width // 2, height // 2 - inner.height // 2
    canvas = Image.new(inner.mode, (width, height))
    canvas.paste(inner, (left, top))
    right, bottom = left + inner.width, top + inner.height
    for start, size, x in (
        ((0, top), (left, inner.height), 0),
        ((right, top), (width - right, inner.height), inner.width),
    ):
        if size[0] > 0:
            canvas.paste(inner.resize(size, box=(x, 0, x, inner.height)), start)
    for start, size, y in (
        ((left, 0), (inner.width, top), 0),
        ((left, bottom), (inner.width, height - bottom), inner.height),
    ):
        if size[1] > 0:
            canvas.paste(inner.resize(size, box=(0, y, inner.width, y)), start)
    return np.asarray(canvas)


def _covering(pixels: Array, height: int, width: int) -> Array:
    """The middle of an image that is made just large enough for a box.

    As `VaeImageProcessor._resize_and_crop` of diffusers.

    Args:
        pixels: [h, w, 3], uint8 or float32.
        height: of the box, pixels.
        width: of the box, pixels.
    """
    own_height, own_width = pixels.shape[:2]
    if width / height > own_width / own_height:
        size = width, max(own_height * width // own_width, height)
    else:
        size = max(own_width * height // own_height, width), height
    channels = [
        np.asarray(Image.fromarray(pixels[:, :, channel]).resize(size, Image.Resampling.LANCZOS))
        for channel in range(3)
    ]
    left, top = size[0] // 2 - width // 2, size[1] // 2 - height // 2
    return np.stack(channels, axis=2)[top : top + height, left : left + width]
