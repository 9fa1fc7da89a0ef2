"""Pictures, masks and arrays that a caller gives, as messages."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kandinsky.client.options import Latents
from kandinsky.v1 import generation_pb2, tensor_pb2
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


def put_picture(message: generation_pb2.InputImage, picture: Any, path: str) -> None:
    """Puts a picture or a mask into its message.

    Raises:
        KandinskyError: INVALID_FIELD if it is nothing that can be sent.
        OSError: a file cannot be read.
    """
    if isinstance(picture, Image.Image):
        message.encoded = _png(picture, path)
    elif isinstance(picture, bytes):
        message.encoded = picture
    elif isinstance(picture, Path):
        message.encoded = picture.read_bytes()
    elif isinstance(picture, Latents):
        message.latents.CopyFrom(encoded_array(picture.array, f"{path}.latents"))
    elif isinstance(picture, str):
        raise invalid(path, "is a str; for a file give its pathlib.Path or its bytes")
    else:
        message.pixels.CopyFrom(encoded_array(picture, f"{path}.pixels"))


def encoded_array(value: Any, path: str) -> tensor_pb2.Tensor:
    """An array, or what numpy makes one of, as a Tensor.

    Raises:
        KandinskyError: INVALID_FIELD if it is no array of numbers.
    """
    try:
        return tensors.encode(np.asarray(value))
    except TypeError as error:
        raise invalid(path, f"is no array of numbers: {error}") from error


def _png(image: Image.Image, path: str) -> bytes:
    """The picture as it is, orientation tag and all: the server turns and converts it."""
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
