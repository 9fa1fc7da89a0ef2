"""Image files to and from pixels, uint8 [H, W, 3]."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from kandinsky.wire.errors import KandinskyError, invalid
from kandinsky.wire.image_structure import check_structure

Format = Literal["png", "jpeg", "webp"]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MAX_PIXELS = 4096 * 4096
"""Largest image that is decoded; checked by its header, before any pixel is read."""

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
_FIRST_SWAPPED = 5
"""From this orientation on, height and width change places."""


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


def size(data: bytes, field: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of what `decode` makes of a file, by its headers; no pixel is decoded.

    Raises:
        KandinskyError: INVALID_FIELD, as `decode`, for whatever the headers tell.
    """
    with _opened(data, field, max_pixels) as image:
        width, height = image.size
        swaps = _orientation(image, data) >= _FIRST_SWAPPED
        return (width, height) if swaps else (height, width)


def decode(data: bytes, field: str, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A PNG, JPEG or WebP file as uint8 [H, W, 3].

    EXIF orientation is applied; grey, palette, 16-bit and CMYK images become RGB; transparency
    is laid over white.

    Raises:
        KandinskyError: INVALID_FIELD if it is another kind of file, broken or cut short, animated,
            larger than `max_pixels` by its header, or has far more parts than any real one.
    """
    with _opened(data, field, max_pixels) as image:
        return np.asarray(_to_rgb(_upright(image, data)))


def decode_mask(data: bytes, field: str, *, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, bool]:
    """The luminance of a PNG, JPEG or WebP file: uint8 [H, W], and whether it is two-level.

    Two-level are images of one bit a pixel and of a palette, which Pillow resizes by the nearest
    pixel. EXIF orientation is applied; transparency is not read, as diffusers' `convert("L")`.

    Raises:
        KandinskyError: as of `decode`.
    """
    with _opened(data, field, max_pixels) as image:
        return _luminance(_upright(image, data))


@contextmanager
def _opened(data: bytes, field: str, max_pixels: int) -> Iterator[Image.Image]:
    """A file whose headers are read; whatever Pillow raises in the block is the file's fault."""
    check_structure(data, field)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise invalid(field, f"is {width}x{height} pixels; the most is {max_pixels} in all")
            # An MPO is a photo with others behind it, from a phone; any viewer shows the first.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise invalid(field, "is animated; send one image")
            yield image
    except UnidentifiedImageError as error:
        raise invalid(field, "is not a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        raise invalid(field, f"is too large; the most is {max_pixels} pixels in all") from error
    except (KandinskyError, MemoryError):
        raise
    except Exception as error:
        # Pillow's plugins raise whatever their parsing runs into: OSError and SyntaxError, but also
        # AttributeError, IndexError, KeyError, EOFError, zlib.error and more. Only Pillow and plain
        # conversions run inside this `try`, so all of it is the file's fault.
        raise invalid(field, f"is a broken image file: {error}") from error


def _upright(image: Image.Image, data: bytes) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image, data))
    image.load()
    if image.mode == "P" and image.palette is None:
        raise ValueError("it has no palette")
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1 to 8 by the headers; 1 where there is none or none that is known."""
    # PNG's own getexif decodes the whole image first, in case an eXIf chunk follows the pixels.
    # ImageOps.exif_transpose would rewrite the other tags, and breaks on malformed ones.
    exif = Image.Image.getexif(image)
    if image.format == "PNG" and not exif and (late := _late_exif(data)):
        exif.load(late)
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in _UPRIGHT else 1


def _late_exif(data: bytes) -> bytes:
    """The content of a PNG's eXIf chunk after the pixels; empty where there is none."""
    start = data.rfind(b"eXIf")
    if start < 4:
        return b""
    (length,) = struct.unpack(">I", data[start - 4 : start])
    content, checksum = data[start + 4 : start + 4 + length], zlib.crc32(b"eXIf")
    checksum = zlib.crc32(content, checksum)
    return content if data[start + 4 + length :].startswith(struct.pack(">I", checksum)) else b""


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
