"""Bounds on the parts of an image file, checked before Pillow walks them.

Pillow reads the chunks of a PNG and the segments of a JPEG one by one in Python, and libjpeg passes
over the whole image for each scan. A file of a few megabytes can hold a million of them, which
takes a thread for seconds or hours; no camera or editor writes such files. WebP is parsed in C, in
time proportional to the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from kandinsky.wire.errors import invalid

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"

MAX_PNG_CHUNKS = 1024
"""Beside one more a KiB of the file: libpng cuts pixel data into chunks of 8 KiB."""
MAX_COLOUR_PROFILES = 16
"""iCCP chunks; PNG allows one. Pillow inflates each to as much as 1 MiB."""

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""What ends scan data, padding or junk: any marker but a restart (T.81, B.1.1.2)."""
_TEM, _SOI, _EOI, _SOS, _DQT, _PHOTOSHOP = 0x01, 0xD8, 0xD9, 0xDA, 0xDB, 0xED
_WITH_LENGTH = frozenset({*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xF0), 0xFE})
"""Markers whose payload Pillow and libjpeg skip by its length."""
MAX_JUNK = 1024
"""Bytes between the segments before the first scan, which Pillow reads one by one."""
MAX_SEGMENTS = 300
"""Of one kind. A colour profile may have 255."""
_FEWER: Mapping[int, int] = {_SOS: 32, _DQT: 32, _PHOTOSHOP: 32}
"""Kinds that cost more: a pass over all pixels, or many small parts each. A progressive JPEG of
libjpeg has 10 scans."""


def check_structure(data: bytes, field: str) -> None:
    """Refuse a PNG or JPEG that has far more parts than any real one.

    Raises:
        KandinskyError: INVALID_FIELD. Files that are broken otherwise pass: Pillow says how.
    """
    if data.startswith(_PNG):
        _check_png(data, field)
    elif data.startswith(_JPEG):
        _check_jpeg(data, field)


def _check_png(data: bytes, field: str) -> None:
    most, profiles = MAX_PNG_CHUNKS + len(data) // 1024, 0
    position = len(_PNG)
    for _ in range(most):
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            return
        profiles += kind == b"iCCP"
        if profiles > MAX_COLOUR_PROFILES:
            raise invalid(field, f"has more than {MAX_COLOUR_PROFILES} colour profiles")
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise invalid(field, f"has more than {most} chunks in {len(data)} bytes")


def _check_jpeg(data: bytes, field: str) -> None:
    segments: Counter[int] = Counter()
    position, junk = 2, 0
    while found := _MARKER.search(data, position):
        marker = found[1][0]
        if not segments[_SOS]:
            junk += found.start() - position
            if junk > MAX_JUNK:
                raise invalid(field, f"has more than {MAX_JUNK} bytes between its segments")
        if marker == _EOI and segments[_SOS]:
            return
        segments[marker] += 1
        if segments[marker] > (most := _FEWER.get(marker, MAX_SEGMENTS)):
            raise invalid(field, f"has more than {most} segments of kind {marker:02X}")
        position = found.end()
        if marker in _WITH_LENGTH:
            position += max(int.from_bytes(data[position : position + 2], "big"), 2)
        elif marker not in (_TEM, _SOI, _EOI) and not segments[_SOS]:
            raise invalid(field, f"is a broken image file: unknown JPEG marker {marker:02X}")
