"""Files with far more parts than any real one are refused before Pillow walks them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kandinsky.wire import images
from kandinsky.wire.errors import KandinskyError, Reason
from kandinsky.wire.image_structure import (
    MAX_COLOUR_PROFILES,
    MAX_JUNK,
    MAX_PNG_CHUNKS,
    MAX_SEGMENTS,
)


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


PNG, JPEG = saved("PNG"), saved("JPEG")
PROGRESSIVE = saved("JPEG", progressive=True)
SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xc4") : -2]
"""The last scan and its table."""


def in_png(parts: bytes) -> bytes:
    """Parts between the header and the pixels."""
    return PNG[:33] + parts + PNG[33:]


def in_jpeg(parts: bytes) -> bytes:
    return JPEG[:2] + parts + JPEG[2:]


PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))
QUANTISATION = segment(0xDB, b"\0" + b"\1" * 64)
FLOODS = {
    "a million empty chunks": (in_png(chunk(b"tESt") * 1_000_000), "chunks"),
    "empty chunks after the pixels": (PNG[:-12] + chunk(b"tESt") * 9999 + PNG[-12:], "chunks"),
    "pixels in empty chunks": (in_png(chunk(b"IDAT") * 9999), "chunks"),
    "colour profiles": (in_png(PROFILE * (MAX_COLOUR_PROFILES + 1)), "colour profiles"),
    "comments": (in_jpeg(segment(0xFE) * (MAX_SEGMENTS + 1)), "segments of kind FE"),
    "EXIF": (in_jpeg(segment(0xE1, b"Exif\0\0") * (MAX_SEGMENTS + 1)), "segments of kind E1"),
    "quantisation tables": (in_jpeg(QUANTISATION * 33), "segments of kind DB"),
    "fill bytes": (in_jpeg(b"\xff" * (MAX_JUNK + 2)), "between its segments"),
    "restart markers": (in_jpeg(b"\xff\xd0" * MAX_JUNK), "between its segments"),
    "ends before the first scan": (in_jpeg(b"\xff\xd9" * 999), "segments of kind D9"),
    "a marker without a length, as Pillow reads it": (
        in_jpeg(segment(0xF0, b"\xff" * 60_000)),
        "unknown JPEG marker F0",
    ),
    "scans": (PROGRESSIVE[:-2] + SCAN * 33 + PROGRESSIVE[-2:], "segments of kind DA"),
}


@pytest.mark.parametrize(("data", "reason"), FLOODS.values(), ids=FLOODS)
def test_a_flood_of_parts_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(KandinskyError) as caught:
        images.decode(data, "image.encoded")
    assert caught.value.reason is Reason.INVALID_FIELD
    [violation] = caught.value.violations
    assert violation.field == "image.encoded"
    assert reason in violation.description


REAL = {
    "chunks": in_png(chunk(b"tESt") * (MAX_PNG_CHUNKS - 10)),
    "a profile": in_png(PROFILE),
    "a profile in parts, EXIF and XMP": in_jpeg(
        segment(0xE1, b"Exif\0\0") * 2
        + segment(0xE1, b"x" * 60_000) * 100
        # what looks like scans inside of a segment is none
        + segment(0xE2, b"\xff\xda" * 30_000) * 255
    ),
    "progressive": PROGRESSIVE,
    "something behind the end": JPEG + (b"\xff\xda" + bytes(9)) * 1000,
    "restarts": saved("JPEG", restart_marker_blocks=1, quality=30),
}


@pytest.mark.parametrize("data", REAL.values(), ids=REAL)
def test_what_real_files_have_is_read(data: bytes) -> None:
    assert images.decode(data, "f").shape == (64, 64, 3)


def test_a_large_png_has_its_chunks() -> None:
    """libpng cuts pixels into 8 KiB; a writer with pieces an eighth of that passes too."""
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1000, 3), np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    packed = zlib.compress(rows, 0)
    pieces = [chunk(b"IDAT", packed[at : at + 1024]) for at in range(0, len(packed), 1024)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1000, 1200, 8, 2, 0, 0, 0))
    data = PNG[:8] + header + b"".join(pieces) + chunk(b"IEND")
    np.testing.assert_array_equal(images.decode(data, "f"), pixels)
