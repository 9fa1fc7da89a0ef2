"""Pictures and masks that a caller sent, as pixels; what is wrong with them goes to Faults."""

from __future__ import annotations

from dataclasses import dataclass

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
HALF = 128
"""Of a mask's 255 levels, the first that counts as white."""


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


def read_mask(image: generation.InputImage, field: str, faults: Faults) -> Pixels | None:
    """The mask as uint8 [H, W], 255 repainted and 0 kept; None, and a note, if it is none."""
    try:
        kind = image.WhichOneof("content")
        if kind == "encoded":
            pixels = images.decode(image.encoded, f"{field}.encoded")
            values: Array = np.asarray(Image.fromarray(pixels).convert("L"))
        elif kind == "pixels":
            values = _levels(image.pixels, f"{field}.pixels", faults)
        else:
            faults.add(field, "is required; send a file or pixels")
            return None
    except KandinskyError as error:
        faults.extend(error)
        return None
    mask = np.where(values >= HALF, np.uint8(255), np.uint8(0))
    if values.size and not mask.any():
        faults.add(field, "repaints nothing: no value is in the upper half")
        return None
    return mask


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


def fitted_mask(mask: Pixels, height: int, width: int) -> Pixels:
    """A mask at a canvas's size."""
    if mask.shape == (height, width):
        return mask
    resized = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.LANCZOS))
    return np.where(resized >= HALF, np.uint8(255), np.uint8(0))


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


def _levels(tensor: tensor_pb2.Tensor, field: str, faults: Faults) -> Array:
    values = tensors.decode(tensor, field, dtypes=tensors.UINT8 | tensors.FLOATS | tensors.BOOL)
    plane = _plane(values)
    if plane is None or not plane.size:
        wanted = "use [H, W], [1, H, W], [1, 1, H, W] or [H, W, 1]"
        faults.add(f"{field}.shape", f"{list(values.shape)[:8]} is no mask; {wanted}")
        return np.empty((0, 0), np.uint8)
    if plane.dtype == np.uint8:
        return plane
    if plane.dtype == np.bool_:
        return np.asarray(plane * np.uint8(255))
    levels = plane.astype(np.float64)
    if not 0 <= levels.min() <= levels.max() <= 1:
        faults.add(f"{field}.data", "holds values outside 0 to 1")
    return np.where(levels >= 0.5, np.uint8(255), np.uint8(0))


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
