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

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def put_picture(message: generation_pb2.InputImage, picture: Any, path: str) -> None:
    """Puts a picture or a mask into its message.

    Raises:
        KandinskyError: INVALID_FIELD if it is nothing that can be sent.
        OSError: a file cannot be read.
    """
    if isinstance(picture, Image.Image):
        message.encoded = _png(picture)
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


def _png(image: Image.Image) -> bytes:
    """The picture as it is, orientation tag and all: the server turns and converts it."""
    file = io.BytesIO()
    sent = image if image.mode in _PNG_MODES else image.convert("RGB")
    sent.save(file, "PNG", exif=image.getexif(), compress_level=1)
    return file.getvalue()
