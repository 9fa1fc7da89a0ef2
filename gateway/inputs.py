"""Pictures and masks that a caller sent: checked by their headers first, decoded later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from gateway.faults import Faults
from gateway.undecoded import Undecoded
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError, invalid
from kandinsky.wire.images import MAX_PIXELS, Pixels
from kandinsky.wire.tensors import Array

_PICTURES = tensors.UINT8 | tensors.FLOATS
_MASKS = tensors.UINT8 | tensors.FLOATS | tensors.BOOL
REQUEST_PIXELS = 2 * MAX_PIXELS
"""Most pixels of all pictures and masks of one request: a largest picture and its mask."""


@dataclass(frozen=True)
class Picture:
    """An input picture: pixels, or a latent."""

    field: str
    """Its path in the request."""
    pixels: Array | None = None
    """uint8 [H, W, 3], or float32 of the same shape from -1 to 1."""
    latents: tensor_pb2.Tensor | None = None
    """[C, h, w]."""


@dataclass(frozen=True)
class Mask:
    """An input mask, in grey: only at the canvas's size its levels are divided, by the decoder."""

    field: str
    """Its path in the request."""
    levels: Pixels
    """uint8 [H, W]: 128 and more is repainted, less is kept."""
    two_level: bool = False
    """Whether it is resized by the nearest pixel: sent as bool, one bit a pixel, or a palette."""

    def resized(self, height: int, width: int) -> Mask:
        """The mask in another size, still in grey, as the Kandinsky pipelines resize it."""
        if self.levels.shape == (height, width):
            return self
        how = Image.Resampling.NEAREST if self.two_level else Image.Resampling.LANCZOS
        levels = np.asarray(Image.fromarray(self.levels).resize((width, height), how))
        return replace(self, levels=levels)

    def cropped(self, left: int, top: int, right: int, bottom: int) -> Mask:
        """A box of the mask, in pixels; right and bottom are outside."""
        return replace(self, levels=self.levels[top:bottom, left:right])


def size_of(pictures: Sequence[Undecoded[Picture]]) -> tuple[str, tuple[int, int]] | None:
    """Path, height and width of the first of some pictures; None for none, and for a latent."""
    if not pictures or pictures[0].size is None:
        return None
    return pictures[0].field, pictures[0].size


def read_picture(
    image: generation.InputImage,
    field: str,
    faults: Faults,
    *,
    most: int = MAX_PIXELS,
    low: float = -1.0,
    latents: bool = True,
) -> Undecoded[Picture] | None:
    """Read a picture's headers; on failure record a violation and return None.

    Args:
        image: as sent.
        field: its path.
        faults: takes what is wrong.
        most: pixels that it may have.
        low: the least value that float pixels may have; the greatest is 1.
        latents: whether a latent may stand for the picture.
    """
    try:
        kind = image.WhichOneof("content")
        if kind == "encoded":
            size = images.size(image.encoded, f"{field}.encoded", max_pixels=most)
            return Undecoded(field, size, partial(_picture_of_file, image, field))
        if kind == "pixels":
            path = f"{field}.pixels"
            dtype, extents = tensors.layout(image.pixels, path, dtypes=_PICTURES)
            height, width = _plane_of_picture(extents, f"{path}.shape")
            _check_size(height, width, f"{path}.shape", most)
            load = partial(_picture_of_tensor, image.pixels, field, low)
            return Undecoded(field, (height, width), load, is_float=dtype != np.uint8)
        if kind == "latents" and latents:
            shape = (None, None, None)
            tensors.decode(image.latents, f"{field}.latents", dtypes=tensors.FLOATS, shape=shape)
            return Undecoded(field, None, lambda: Picture(field, latents=image.latents))
        if kind == "latents":
            faults.add(f"{field}.latents", "does not fit here; send a file or pixels")
        else:
            faults.add(field, "is required; send a file, pixels or a latent")
    except KandinskyError as error:
        faults.extend(error)
    return None


def read_mask(
    image: generation.InputImage, field: str, faults: Faults, *, most: int = MAX_PIXELS
) -> Undecoded[Mask] | None:
    """Read a mask's headers; on failure record a violation and return None.

    Args:
        image: as sent.
        field: its path.
        faults: takes what is wrong.
        most: pixels that it may have.
    """
    try:
        kind = image.WhichOneof("content")
        if kind == "encoded":
            size = images.size(image.encoded, f"{field}.encoded", max_pixels=most)
            return Undecoded(field, size, partial(_mask_of_file, image, field))
        if kind == "pixels":
            path = f"{field}.pixels"
            _, extents = tensors.layout(image.pixels, path, dtypes=_MASKS)
            height, width = _plane_of_mask(extents, f"{path}.shape")
            _check_size(height, width, f"{path}.shape", most)
            load = partial(_mask_of_tensor, image.pixels, field, (height, width))
            return Undecoded(field, (height, width), load)
        faults.add(field, "is required; send a file or pixels")
    except KandinskyError as error:
        faults.extend(error)
    return None


def shown(picture: Picture) -> Pixels:
    """What the image encoder sees of a picture with pixels: uint8 [H, W, 3]."""
    if picture.pixels is None:
        raise ValueError("a latent cannot be shown to the image encoder")
    if picture.pixels.dtype == np.uint8:
        return picture.pixels
    return np.asarray(((picture.pixels + 1) * 127.5).round().astype(np.uint8))


def check_fits(picture: Undecoded[Picture], height: int, width: int, faults: Faults) -> None:
    """Record a violation for float pixels of another size than the canvas's."""
    if picture.is_float and picture.size not in (None, (height, width)):
        have = f"{picture.size[1]}x{picture.size[0]}"
        faults.add(f"{picture.field}.pixels", f"is {have}; floats must be {width}x{height}")


def fitted(picture: Picture, height: int, width: int) -> Array:
    """A picture's pixels at a canvas's size; uint8 ones are resized as the pipelines do it.

    Raises:
        ValueError: it has no pixels, or floats of another size.
    """
    pixels = picture.pixels
    if pixels is None:
        raise ValueError("a latent has no pixels")
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype != np.uint8:
        raise ValueError("floats are not resized")
    resized = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BICUBIC, reducing_gap=1
    )
    return np.asarray(resized)


def _check_size(height: int, width: int, field: str, most: int) -> None:
    if not height * width:
        raise invalid(field, "has no pixels")
    if height * width > most:
        raise invalid(field, f"is {width}x{height}; the most is {most} pixels in all")


def _picture_of_file(image: generation.InputImage, field: str) -> Picture:
    return Picture(field, images.decode(image.encoded, f"{field}.encoded"))


def _picture_of_tensor(tensor: tensor_pb2.Tensor, field: str, low: float) -> Picture:
    pixels = tensors.decode(tensor, f"{field}.pixels")
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)
        if not (low <= pixels.min() and pixels.max() <= 1):  # true for NaN
            raise invalid(f"{field}.pixels.data", f"holds values outside {low:g} to 1")
    pixels = pixels.reshape(pixels.shape[-3:])
    if pixels.shape[2] != 3:
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Picture(field, pixels)


def _mask_of_file(image: generation.InputImage, field: str) -> Mask:
    return Mask(field, *images.decode_mask(image.encoded, f"{field}.encoded"))


def _mask_of_tensor(tensor: tensor_pb2.Tensor, field: str, size: tuple[int, int]) -> Mask:
    path = f"{field}.pixels"
    plane = tensors.decode(tensor, path).reshape(size)
    if plane.dtype == np.bool_:
        return Mask(field, np.asarray(plane * np.uint8(255)), two_level=True)
    if plane.dtype == np.uint8:
        if plane.max() == 1:  # would keep everything, which nobody means who writes ones
            rule = "holds 0 and 1 alone; white is 255, or send bool or floats"
            raise invalid(f"{path}.data", rule)
        return Mask(field, plane)
    levels = plane.astype(np.float64)
    if not 0 <= levels.min() <= levels.max() <= 1:
        raise invalid(f"{path}.data", "holds values outside 0 to 1")
    return Mask(field, (levels * 255).round().astype(np.uint8))  # 0.5 becomes 128


def _plane_of_picture(extents: tuple[int, ...], field: str) -> tuple[int, int]:
    """A picture's height and width, with the channels last, or first as torch has them."""
    match extents:
        case (height, width, 3) | (1, height, width, 3) | (3, height, width):
            return height, width
        case (1, 3, height, width):
            return height, width
    shapes = "use [H, W, 3] or [3, H, W], either with a leading 1"
    raise invalid(field, f"{list(extents)[:8]} is no image; {shapes}")


def _plane_of_mask(extents: tuple[int, ...], field: str) -> tuple[int, int]:
    """A mask's height and width, of the shapes that the pipelines take."""
    match extents:
        case (height, width) | (1, height, width) | (1, 1, height, width) | (height, width, 1):
            if height * width:
                return height, width
    shapes = "use [H, W], [1, H, W], [1, 1, H, W] or [H, W, 1]"
    raise invalid(field, f"{list(extents)[:8]} is no mask; {shapes}")
