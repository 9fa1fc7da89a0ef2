"""Which files the pictures of a request go to."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from google.protobuf.message import Message

from kandinsky.client import OutputFormat
from kandinsky.client.animation import SUFFIXES

FORMATS: dict[str, OutputFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".npy": "pixels",
}
"""What a file's suffix asks for where no format is given."""

MOST_CHECKED = 1000
"""Files looked at before a request; no server makes more images for one."""


class OutputError(ValueError):
    """An output path that cannot be used; the message is one sentence."""


def format_for(output: Path, wanted: str | None, *, moves: bool = False) -> OutputFormat:
    """The format to ask the server for.

    Args:
        output: the file; its suffix counts.
        wanted: the format that was asked for, if one was.
        moves: whether a GIF or WebP is made of several images, which come lossless.

    Raises:
        OutputError: the path is a folder's, its suffix is unknown or does not fit `wanted`, or the
            folder is missing.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder; name a file, such as {output / 'out.png'}")
    known = FORMATS | dict.fromkeys(SUFFIXES, "png") if moves else FORMATS
    by_suffix = known.get(output.suffix.lower())
    if by_suffix is None:
        raise OutputError(f"{output} must end in one of {', '.join(known)}")
    if not output.parent.is_dir():
        raise OutputError(f"folder {output.parent} does not exist")
    if wanted is None:
        return by_suffix
    if (by_suffix == "pixels") != (wanted in ("pixels", "float_pixels", "latents")):
        raise OutputError(f"{output} does not fit format {wanted}; tensors go to .npy files")
    return cast(OutputFormat, wanted)


def paths(request: Message, output: Path, *, moves: bool = False) -> list[Path]:
    """The files that the images of a request go to.

    Args:
        request: of any flow.
        output: as the user named it.
        moves: whether a GIF or WebP is made of several images.
    """
    if moves and output.suffix.lower() in SUFFIXES:
        return [output]
    count = _image_count(request)
    return [path_of(output, index, count) for index in range(min(count, MOST_CHECKED))]


def check_writable(files: Iterable[Path]) -> None:
    """Check, as far as permissions tell, that files can be made or replaced.

    Raises:
        OutputError: one is a folder or may not be written, or its folder may not.
    """
    for file in files:
        if file.is_dir():
            raise OutputError(f"{file} is a folder")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise OutputError(f"{file} cannot be written: permission denied")


def _image_count(request: Any) -> int:
    """How many images the server makes of a request that the command built."""
    items = max(len(getattr(request, name, ())) for name in ("prompts", "images"))
    per_prompt: int = request.settings.images_per_prompt
    return max(items, getattr(request, "frames", 1), 1) * max(per_prompt, 1)


def path_of(output: Path, index: int, count: int) -> Path:
    """Where image `index` of `count` goes: the output itself, or with `-index` put in."""
    return output if count == 1 else output.with_stem(f"{output.stem}-{index}")


def preview_path(output: Path, index: int) -> Path:
    """Where the latest preview of image `index` goes."""
    return output.with_name(f"{output.stem}-{index}.preview.png")
