"""Which files the images of a request go to."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from kandinsky.client import OutputFormat
from kandinsky.client.animation import SUFFIXES
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.v1.guide_pb2 import Guide

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


def animates(request: GenerateRequest, output: Path) -> bool:
    """Whether the images become one animation: frames, and a suffix that can hold them."""
    frames = request.guide.WhichOneof("kind") == "interpolation"
    return frames and output.suffix.lower() in SUFFIXES


def format_for(output: Path, asked: str | None, *, animation: bool = False) -> OutputFormat:
    """The format to ask the server for.

    Args:
        output: the file; its suffix counts.
        asked: the format that the user named; None for that of the suffix.
        animation: whether a GIF or WebP is made of several images, which come lossless.

    Raises:
        OutputError: the path is a folder's, its suffix is unknown or does not fit `asked`, or the
            folder is missing.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder; name a file, such as {output / 'out.png'}")
    known = FORMATS | dict.fromkeys(SUFFIXES, "png") if animation else FORMATS
    by_suffix = known.get(output.suffix.lower())
    if by_suffix is None:
        raise OutputError(f"{output} must end in one of {', '.join(known)}")
    if not output.parent.is_dir():
        raise OutputError(f"folder {output.parent} does not exist")
    if asked is None:
        return by_suffix
    if (by_suffix == "pixels") != (asked in ("pixels", "float_pixels", "latents")):
        raise OutputError(f"{output} does not fit format {asked}; tensors go to .npy files")
    return cast(OutputFormat, asked)


def paths(request: GenerateRequest, output: Path) -> list[Path]:
    """The files that the images of a request go to.

    Args:
        request: of any flow.
        output: as the user named it.
    """
    if animates(request, output):
        return [output]
    count = _items(request.guide) * max(request.images_per_prompt, 1)
    return [path_of(output, index, count) for index in range(min(count, MOST_CHECKED))]


def check_writable(files: Iterable[Path]) -> None:
    """Check, as far as permissions say, that files can be made or replaced.

    Raises:
        OutputError: one is a folder or may not be written, or its folder may not.
    """
    for file in files:
        if file.is_dir():
            raise OutputError(f"{file} is a folder")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise OutputError(f"{file} cannot be written: permission denied")


def _items(guide: Guide) -> int:
    """Items of a guide: prompts, images, frames or conditionings; a mix has one."""
    match guide.WhichOneof("kind"):
        case "text":
            return len(guide.text.prompts)
        case "text_and_image":
            return len(guide.text_and_image.prompts)
        case "image":
            return len(guide.image.images)
        case "text_diff":
            return len(guide.text_diff.images)
        case "interpolation":
            return guide.interpolation.frames
        case "embeddings":
            return len(guide.embeddings.conditionings)
        case _:
            return 1


def path_of(output: Path, index: int, count: int) -> Path:
    """Where image `index` of `count` goes: the output itself, or with `-index` put in."""
    return output if count == 1 else output.with_stem(f"{output.stem}-{index}")


def preview_path(output: Path, index: int) -> Path:
    """Where the latest preview of image `index` goes."""
    return output.with_name(f"{output.stem}-{index}.preview.png")
