"""Picture files to and from pixels, uint8 [H, W, 3]."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from kandinsky.wire.errors import invalid

Format = Literal["png", "jpeg", "webp"]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
T = TypeVar("T")

MAX_PIXELS = 4096 * 4096
"""Largest picture that is decoded; its header tells before any pixel is read."""

DEFAULT_JPEG_QUALITY = 95

_UPRIGHT: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an EXIF orientation (Exif 2.3, tag 0x0112); 1 is upright."""


def encode(pixels: Pixels, format: Format, quality: int | None = None) -> bytes:
    """Pixels as a file.

    Args:
        pixels: uint8 [H, W, 3].
        format: `png` is lossless and so is `webp` without a quality.
        quality: 1 to 100, for `jpeg` (default 95) and `webp`.
    """
    options: Mapping[Format, dict[str, Any]] = {
        "png": {"compress_level": 1},  # level 6 takes three times as long for a few per cent
        "jpeg": {"quality": quality or DEFAULT_JPEG_QUALITY},
        "webp": {"quality": quality} if quality else {"lossless": True},
    }
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=format.upper(), **options[format])
    return file.getvalue()


def decode(data: bytes, field: str, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A PNG, JPEG or WebP file as uint8 [H, W, 3].

    EXIF orientation is applied; grey, palette, 16-bit and CMYK pictures become RGB; transparency
    is laid over white.

    Raises:
        KandinskyError: INVALID_FIELD if it is no such file, is cut short, moves, or is larger
            than `max_pixels` by its header.
    """
    return _decoded(data, field, max_pixels, lambda image: np.asarray(_to_rgb(image)))


def decode_mask(data: bytes, field: str, *, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, bool]:
    """The luminance of a PNG, JPEG or WebP file: uint8 [H, W], and whether it is two-level.

    Two-level are images of one bit a pixel and of a palette, which Pillow resizes by the nearest
    pixel. EXIF orientation is applied; transparency is not read, as diffusers' `convert("L")`.

    Raises:
        KandinskyError: as of `decode`.
    """
    return _decoded(data, field, max_pixels, _luminance)


def _decoded(data: bytes, field: str, max_pixels: int, convert: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise invalid(field, f"is {width}x{height} pixels; the most is {max_pixels} in all")
            if getattr(image, "n_frames", 1) > 1:
                raise invalid(field, "is animated; send one picture")
            image.load()
            return convert(_upright(image))
    except UnidentifiedImageError as error:
        raise invalid(field, "is not a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise invalid(field, f"is too large; the most is {max_pixels} pixels in all") from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise invalid(field, f"is a broken picture file: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose would write the other tags anew, and breaks on malformed ones.
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _luminance(image: Image.Image) -> tuple[Pixels, bool]:
    if image.mode.startswith("I"):
        return _scaled(image).round().astype(np.uint8), False
    return np.asarray(image.convert("L")), image.mode in ("1", "P")


def _scaled(image: Image.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    """16-bit grey on a scale of 255; Pillow would clip it."""
    return np.asarray(image, dtype=np.float64) * (255 / 65535)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = _scaled(image)
        if (transparent := image.info.get("transparency")) is not None:
            levels[np.asarray(image) == transparent] = 255
        return Image.fromarray(levels.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
