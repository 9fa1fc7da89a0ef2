"""Images and masks that a caller sent: validated by their headers first, decoded later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from gateway.requests.undecoded import Undecoded
from gateway.requests.violations import Violations
from kandinsky.catalog.family import Resampling
from kandinsky.v1 import input_image_pb2, tensor_pb2
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError, invalid
from kandinsky.wire.images import MAX_PIXELS, Pixels
from kandinsky.wire.tensors import Array

_IMAGES = tensors.UINT8 | tensors.FLOATS
_MASKS = tensors.UINT8 | tensors.FLOATS | tensors.BOOL
_NO_LATENT = "does not fit here; send a file or pixels"
_RESAMPLING = {
    Resampling.BICUBIC: (Image.Resampling.BICUBIC, 1),
    Resampling.LANCZOS: (Image.Resampling.LANCZOS, None),
}
"""Filter of PIL, and the gap by which it reduces an image first."""
REQUEST_PIXELS = 2 * MAX_PIXELS
"""Most pixels of all images and masks of one request: a largest image and its mask."""


@dataclass(frozen=True)
class InputImage:
    """An input image: pixels, or a latent."""

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
    """uint8 [H, W]: 128 and more is generated, less is kept."""
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


def read_image(
    image: input_image_pb2.InputImage,
    field: str,
    violations: Violations,
    *,
    most: int = MAX_PIXELS,
    low: float = -1.0,
    latents: bool = True,
) -> Undecoded[InputImage] | None:
    """Read an image's headers; on failure record a violation and return None.

    Args:
        image: as sent.
        field: its path.
        violations: hold what the contract finds wrong with it; take what is wrong besides.
        most: pixels that it may have.
        low: the least value that float pixels may have; the greatest is 1.
        latents: whether a latent may stand for the image.
    """
    if violations.within(field):
        return None
    try:
        if image.HasField("encoded"):
            size = images.size(image.encoded, f"{field}.encoded", max_pixels=most)
            return Undecoded(field, size, partial(_image_of_file, image, field))
        if image.HasField("pixels"):
            path = f"{field}.pixels"
            dtype, extents = tensors.layout(image.pixels, path, dtypes=_IMAGES)
            height, width = _plane_of_image(extents, f"{path}.shape")
            _check_size(height, width, f"{path}.shape", most)
            load = partial(_image_of_tensor, image.pixels, field, low)
            return Undecoded(field, (height, width), load, is_float=dtype != np.uint8)
        if latents:
            return Undecoded(field, None, lambda: InputImage(field, latents=image.latents))
        violations.add(f"{field}.latents", _NO_LATENT)
    except KandinskyError as error:
        violations.extend(error)
    return None


def read_mask(
    image: input_image_pb2.InputImage,
    field: str,
    violations: Violations,
    *,
    most: int = MAX_PIXELS,
) -> Undecoded[Mask] | None:
    """Read a mask's headers; on failure record a violation and return None.

    Args:
        image: as sent.
        field: its path.
        violations: hold what the contract finds wrong with it; take what is wrong besides.
        most: pixels that it may have.
    """
    if violations.within(field):
        return None
    try:
        if image.HasField("encoded"):
            size = images.size(image.encoded, f"{field}.encoded", max_pixels=most)
            return Undecoded(field, size, partial(_mask_of_file, image, field))
        if image.HasField("pixels"):
            path = f"{field}.pixels"
            _, extents = tensors.layout(image.pixels, path, dtypes=_MASKS)
            height, width = _plane_of_mask(extents, f"{path}.shape")
            _check_size(height, width, f"{path}.shape", most)
            load = partial(_mask_of_tensor, image.pixels, field, (height, width))
            return Undecoded(field, (height, width), load)
        violations.add(f"{field}.latents", _NO_LATENT)
    except KandinskyError as error:
        violations.extend(error)
    return None


def encoder_pixels(image: InputImage) -> Pixels:
    """What the image encoder reads of an image with pixels: uint8 [H, W, 3]."""
    if image.pixels is None:
        raise ValueError("the image encoder reads no latent")
    if image.pixels.dtype == np.uint8:
        return image.pixels
    return np.asarray(((image.pixels + 1) * 127.5).round().astype(np.uint8))


def check_fits(
    image: Undecoded[InputImage], height: int, width: int, violations: Violations
) -> None:
    """Record a violation for float pixels of another size than the canvas's."""
    if image.is_float and image.size not in (None, (height, width)):
        have = f"{image.size[1]}x{image.size[0]}"
        violations.add(f"{image.field}.pixels", f"is {have}; floats must be {width}x{height}")


def fitted(
    image: InputImage, height: int, width: int, resampling: Resampling = Resampling.BICUBIC
) -> Array:
    """A image's pixels at a canvas's size; uint8 ones are resized as the pipelines do it.

    Args:
        image: of any size.
        height: of the canvas, pixels.
        width: of the canvas, pixels.
        resampling: as the family's pipelines have it.

    Raises:
        ValueError: it has no pixels, or floats of another size.
    """
    pixels = image.pixels
    if pixels is None:
        raise ValueError("a latent has no pixels")
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype != np.uint8:
        raise ValueError("floats are not resized")
    how, gap = _RESAMPLING[resampling]
    return np.asarray(Image.fromarray(pixels).resize((width, height), how, reducing_gap=gap))


def _check_size(height: int, width: int, field: str, most: int) -> None:
    if not height * width:
        raise invalid(field, "has no pixels")
    if height * width > most:
        raise invalid(field, f"is {width}x{height}; the most is {most} pixels in all")


def _image_of_file(image: input_image_pb2.InputImage, field: str) -> InputImage:
    return InputImage(field, images.decode(image.encoded, f"{field}.encoded"))


def _image_of_tensor(tensor: tensor_pb2.Tensor, field: str, low: float) -> InputImage:
    pixels = tensors.decode(tensor, f"{field}.pixels")
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.float32)
        if not (low <= pixels.min() and pixels.max() <= 1):  # true for NaN
            raise invalid(f"{field}.pixels.data", f"holds values outside {low:g} to 1")
    pixels = pixels.reshape(pixels.shape[-3:])
    if pixels.shape[2] != 3:
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return InputImage(field, pixels)


def _mask_of_file(image: input_image_pb2.InputImage, field: str) -> Mask:
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


def _plane_of_image(extents: tuple[int, ...], field: str) -> tuple[int, int]:
    """A image's height and width, with the channels last, or first as torch has them."""
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
