"""Which files the pictures of a request go to."""

from pathlib import Path
from typing import cast

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


class OutputError(ValueError):
    """An output path that cannot be used; the message is one sentence."""


def format_for(output: Path, wanted: str | None, *, moves: bool = False) -> OutputFormat:
    """The format to ask the server for.

    Args:
        output: the file; its suffix counts.
        wanted: the format that was asked for, if one was.
        moves: whether a GIF or WebP is made of several images, which come lossless.

    Raises:
        OutputError: the suffix is unknown, does not fit `wanted`, or the folder is missing.
    """
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


def path_of(output: Path, index: int, count: int) -> Path:
    """Where image `index` of `count` goes: the output itself, or with `-index` put in."""
    return output if count == 1 else output.with_stem(f"{output.stem}-{index}")


def preview_path(output: Path, index: int) -> Path:
    """Where the latest preview of image `index` goes."""
    return output.with_name(f"{output.stem}-{index}.preview.png")
