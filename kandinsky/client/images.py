"""Images, masks and arrays that a caller passes, as messages."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from kandinsky.client.options import InputImage, InputImages, Latents, Masks
from kandinsky.v1 import input_image_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid

_PNG_MODES = {
    **{mode: mode for mode in ("1", "L", "LA", "I;16", "I;16B", "P", "RGB", "RGBA")},
    **dict.fromkeys(("RGBX", "CMYK", "YCbCr", "HSV", "LAB"), "RGB"),
    **dict.fromkeys(("RGBa", "PA"), "RGBA"),
    "La": "LA",
}
"""What an image of a Pillow mode becomes in a PNG. `I`, `F` and odd kinds of `I;16` are absent:
Pillow clips them."""


def input_images(images: InputImages | Masks | None, path: str) -> list[input_image_pb2.InputImage]:
    """Messages of one image or mask, or of several; none for None.

    Args:
        images: what the caller passed.
        path: of the field that they go to.

    Raises:
        KandinskyError: INVALID_FIELD if one is of a type that cannot be sent.
        OSError: a file cannot be read.
    """
    if images is None:
        return []
    several = images if _is_list(images) else [images]
    return [input_image(image, f"{path}[{i}]") for i, image in enumerate(several)]


def input_image(image: Any, path: str) -> input_image_pb2.InputImage:
    """The message of an image or a mask.

    Raises:
        KandinskyError: INVALID_FIELD if it is of a type that cannot be sent.
        OSError: a file cannot be read.
    """
    message = input_image_pb2.InputImage()
    if isinstance(image, Image.Image):
        message.encoded = _png(image, path)
    elif isinstance(image, bytes):
        message.encoded = image
    elif isinstance(image, Path):
        message.encoded = image.read_bytes()
    elif isinstance(image, Latents):
        message.latents.CopyFrom(tensor(image.array, f"{path}.latents"))
    elif isinstance(image, str):
        raise invalid(path, "is a str; for a file pass its pathlib.Path or its bytes")
    else:
        message.pixels.CopyFrom(tensor(image, f"{path}.pixels"))
    return message


def tensor(value: Any, path: str) -> tensor_pb2.Tensor:
    """An array, or what numpy makes one of, as a Tensor.

    Raises:
        KandinskyError: INVALID_FIELD if it does not hold numbers.
    """
    try:
        return tensors.encode(np.asarray(value))
    except TypeError as error:
        raise invalid(path, f"is not an array of numbers: {error}") from error


def _is_list(images: Any) -> TypeGuard[Sequence[InputImage]]:
    return isinstance(images, list | tuple)


def _png(image: Image.Image, path: str) -> bytes:
    """The image unchanged, orientation tag included: the server transposes and converts it."""
    mode = _PNG_MODES.get(image.mode)
    if mode is None:
        raise invalid(
            path,
            f"is a PIL image of mode {image.mode}, which conversion would clip; scale it to 0 to "
            "255 and mode L, or to 0 to 65535 and mode I;16",
        )
    file = io.BytesIO()
    sent = image if mode == image.mode else image.convert(mode)
    sent.save(file, "PNG", exif=image.getexif(), compress_level=1)
    return file.getvalue()
