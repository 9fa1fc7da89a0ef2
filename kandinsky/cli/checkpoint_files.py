"""What a checkpoint folder holds, by its headers: is it whole, how large are its weights."""

import json
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kandinsky.catalog.entry import CatalogEntry, FolderCheckpoint
from kandinsky.catalog.family import Stage

_SUFFIXES = (".safetensors", ".bin")
"""Of weight files, in the order in which they are preferred."""
_SHARD = re.compile(r"-\d+-of-\d+")


class CheckpointFault(RuntimeError):
    """A checkpoint that cannot be loaded as it is; the message is one sentence."""


@dataclass(frozen=True)
class Weights:
    """What one file holds."""

    count: int
    """Numbers in it."""


def check(entry: CatalogEntry, stage: Stage) -> None:
    """Check the checkpoint folders of a stage that a model runs; hub names are the loader's.

    Raises:
        CheckpointFault: a folder, a part or a file is missing or cut short.
    """
    for checkpoint in entry.checkpoints(stage).values():
        if isinstance(checkpoint, FolderCheckpoint):
            _check_folder(checkpoint, f"model {entry.name}, {stage.value}")


def parts(folder: Path) -> list[str]:
    """Names of the parts of a checkpoint: what its index lists, or its subfolders."""
    index = folder / "model_index.json"
    if not index.is_file():
        return sorted(path.name for path in folder.iterdir() if path.is_dir())
    listed = json.loads(index.read_text(encoding="utf-8"))
    return [
        name
        for name, home in listed.items()
        if isinstance(home, list) and all(home)  # a part that was left out is [null, null]
    ]


def variants(names: Iterable[str]) -> set[str | None]:
    """The variants that a part's weight files are of; None for those that name none."""
    return {_variant(Path(name)) for name in names if name.endswith(_SUFFIXES)}


def weight_names(names: Iterable[str], variant: str | None) -> list[str]:
    """The names of the files that are loaded of a part's: safetensors if there are any.

    Args:
        names: of the files in the part's folder.
        variant: that the files are of.
    """
    own = sorted(name for name in names if _variant(Path(name)) == variant)
    for suffix in _SUFFIXES:
        if found := [name for name in own if name.endswith(suffix)]:
            return found
    return []


def _variant(file: Path) -> str | None:
    """`fp16` of `model.fp16-00001-of-00002.safetensors`; None of `model.safetensors`."""
    return _SHARD.sub("", file.stem).partition(".")[2] or None


def weight_files(part: Path, variant: str | None) -> list[Path]:
    """The files that are loaded from a part, of a variant: safetensors if there are any."""
    return [part / name for name in weight_names((file.name for file in part.glob("*")), variant)]


def weights(file: Path) -> Weights:
    """What a weight file holds; a `.bin`, which has no header, counts as float32.

    Raises:
        CheckpointFault: a safetensors file is cut short, or holds something else.
    """
    if file.suffix != ".safetensors":
        return Weights(file.stat().st_size // 4)
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise CheckpointFault(f"{file} is not a whole safetensors file")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise CheckpointFault(f"{file} is not a safetensors file") from error
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    end = max((entry["data_offsets"][1] for entry in tensors), default=0)
    if 8 + length + end != size:
        raise CheckpointFault(f"{file} is cut short: {size} bytes of {8 + length + end}")
    return Weights(sum(math.prod(entry["shape"]) for entry in tensors))


def _check_folder(checkpoint: FolderCheckpoint, whose: str) -> None:
    folder = checkpoint.folder
    if not folder.is_dir():
        raise CheckpointFault(f"{whose}: checkpoint folder {folder} does not exist")
    try:
        names = parts(folder)
    except ValueError as error:
        raise CheckpointFault(f"{folder / 'model_index.json'} is not JSON") from error
    if not names:
        raise CheckpointFault(f"{whose}: checkpoint folder {folder} holds no parts")
    for name in names:
        part = folder / name
        if not part.is_dir():
            raise CheckpointFault(f"{whose}: {part} is missing")
        if (part / "config.json").is_file():  # a network; the others have no weights
            _check_weights(part, checkpoint.variant, whose)


def _check_weights(part: Path, variant: str | None, whose: str) -> None:
    files = weight_files(part, variant)
    if not files:
        of = f" of variant {variant}" if variant else ""
        raise CheckpointFault(f"{whose}: {part} holds no weights{of}")
    for index in part.glob(f"*.index.{variant}.json" if variant else "*.index.json"):
        for name in set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()):
            if not (part / name).is_file():
                raise CheckpointFault(f"{whose}: {part / name} is missing")
    for file in files:
        weights(file)
