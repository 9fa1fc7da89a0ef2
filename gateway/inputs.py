"""Pictures and masks that a caller sent, as pixels; what is wrong with them goes to Faults."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from gateway.faults import Faults
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError
from kandinsky.wire.images import MAX_PIXELS, Pixels
from kandinsky.wire.tensors import Array

_FLOAT32 = frozenset({np.dtype("<f4")})


@dataclass(frozen=True)
class Picture:
    """An input picture: pixels, or a latent."""

    field: str
    """Its path in the request."""
    pixels: Array | None = None
    """uint8 [H, W, 3], or float32 of the same shape from -1 to 1."""
    latents: tensor_pb2.Tensor | None = None
    """[C, h, w]."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels; None for a latent."""
        return None if self.pixels is None else (self.pixels.shape[0], self.pixels.shape[1])


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


def read_picture(
    image: generation.InputImage,
    field: str,
    faults: Faults,
    *,
    most: int = MAX_PIXELS,
    low: float = -1.0,
    latents: bool = True,
) -> Picture | None:
    """The picture; None, and a note, if it is none.

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
            path = f"{field}.encoded"
            return Picture(field, images.decode(image.encoded, path, max_pixels=most))
        if kind == "pixels":
            pixels = _pixels(image.pixels, f"{field}.pixels", most, low, faults)
            return None if pixels is None else Picture(field, pixels)
        if kind == "latents" and latents:
            shape = (None, None, None)
            tensors.decode(image.latents, f"{field}.latents", dtypes=tensors.FLOATS, shape=shape)
            return Picture(field, latents=image.latents)
        if kind == "latents":
            faults.add(f"{field}.latents", "does not fit here; send a file or pixels")
        else:
            faults.add(field, "is required; send a file, pixels or a latent")
    except KandinskyError as error:
        faults.extend(error)
    return None


def read_mask(
    image: generation.InputImage, field: str, faults: Faults, *, most: int = MAX_PIXELS
) -> Mask | None:
    """Read a mask; on failure record a violation and return None.

    Args:
        image: as sent.
        field: its path.
        faults: takes what is wrong.
        most: pixels that it may have.
    """
    try:
        kind = image.WhichOneof("content")
        if kind == "encoded":
            path = f"{field}.encoded"
            return Mask(field, *images.decode_mask(image.encoded, path, max_pixels=most))
        if kind == "pixels":
            return _mask(image.pixels, field, most, faults)
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


def fitted(picture: Picture, height: int, width: int, faults: Faults) -> Array:
    """A picture's pixels at a canvas's size; uint8 ones are resized as the pipelines do it."""
    pixels = picture.pixels
    if pixels is None:
        raise ValueError("a latent has no pixels")
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype != np.uint8:
        have = f"{pixels.shape[1]}x{pixels.shape[0]}"
        faults.add(f"{picture.field}.pixels", f"is {have}; floats must be {width}x{height}")
        return pixels
    resized = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BICUBIC, reducing_gap=1
    )
    return np.asarray(resized)


def _pixels(
    tensor: tensor_pb2.Tensor, field: str, most: int, low: float, faults: Faults
) -> Array | None:
    pixels = tensors.decode(tensor, field, dtypes=tensors.UINT8 | _FLOAT32, shape=(None, None, 3))
    height, width, _ = pixels.shape
    if not height * width:
        faults.add(f"{field}.shape", "has no pixels")
        return None
    if height * width > most:
        faults.add(f"{field}.shape", f"is {width}x{height}; the most is {most} pixels in all")
        return None
    if pixels.dtype != np.uint8 and not (low <= pixels.min() and pixels.max() <= 1):
        faults.add(f"{field}.data", f"holds values outside {low:g} to 1")
        return None
    return pixels


def _mask(tensor: tensor_pb2.Tensor, field: str, most: int, faults: Faults) -> Mask | None:
    path = f"{field}.pixels"
    values = tensors.decode(tensor, path, dtypes=tensors.UINT8 | tensors.FLOATS | tensors.BOOL)
    plane = _plane(values)
    if plane is None or not plane.size:
        shapes = "use [H, W], [1, H, W], [1, 1, H, W] or [H, W, 1]"
        faults.add(f"{path}.shape", f"{list(values.shape)[:8]} is no mask; {shapes}")
        return None
    height, width = plane.shape
    if height * width > most:
        faults.add(f"{path}.shape", f"is {width}x{height}; the most is {most} pixels in all")
        return None
    if plane.dtype == np.bool_:
        return Mask(field, np.asarray(plane * np.uint8(255)), two_level=True)
    if plane.dtype == np.uint8:
        if plane.max() == 1:  # would keep everything, which nobody means who writes ones
            faults.add(f"{path}.data", "holds 0 and 1 alone; white is 255, or send bool or floats")
            return None
        return Mask(field, plane)
    levels = plane.astype(np.float64)
    if not 0 <= levels.min() <= levels.max() <= 1:
        faults.add(f"{path}.data", "holds values outside 0 to 1")
        return None
    return Mask(field, (levels * 255).round().astype(np.uint8))  # 0.5 becomes 128


def _plane(values: Array) -> Array | None:
    """A mask's [H, W], of the shapes that the pipelines take."""
    if values.ndim == 2:
        return values
    if values.ndim == 4 and values.shape[:2] == (1, 1):
        return np.asarray(values[0, 0])
    if values.ndim == 3 and values.shape[0] == 1:
        return np.asarray(values[0])
    if values.ndim == 3 and values.shape[2] == 1:
        return np.asarray(values[:, :, 0])
    return None
