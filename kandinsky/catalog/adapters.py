"""The adapters of a model: a folder with a manifest, which gateway and stages read alike.

The manifest is the truth: whoever reads the folder sees what was added or taken out since.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from kandinsky.catalog.family import AdapterKind
from kandinsky.catalog.overrides import Frozen

MANIFEST = "manifest.yaml"
MOST = 8
"""Adapters that one request may name."""


class AdapterError(ValueError):
    """An adapter that cannot be used; the message is one sentence."""


class Adapter(Frozen):
    """An adapter as the manifest declares it."""

    kind: AdapterKind = AdapterKind.LORA
    file: str
    """Inside the folder."""

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".safetensors":
            raise ValueError("must be a .safetensors file inside the folder")
        return file


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_MANIFEST = TypeAdapter(dict[Name, Adapter])


class AdapterFolder:
    """A folder of adapters, read again when its manifest has changed.

    Args:
        folder: holds the manifest and the files that it names; without a manifest, no adapters.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int] | None = None
        self._adapters: Mapping[str, Adapter] = {}

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """By name.

        Raises:
            AdapterError: the manifest cannot be read.
        """
        path = self._folder / MANIFEST
        stamp = _stamp(path)
        if stamp != self._stamp:
            self._adapters = _read(path) if stamp is not None else {}
            self._stamp = stamp
        return self._adapters

    def file(self, name: str) -> tuple[Path, tuple[int, int]]:
        """The file of an adapter, and what changes when its content does.

        Raises:
            AdapterError: there is no adapter of that name, or no such file.
        """
        if name not in self.adapters:
            known = ", ".join(sorted(self.adapters)) or "none"
            raise AdapterError(f"{name!r} is no adapter of this model; it has {known}")
        path = self._folder / self.adapters[name].file
        stamp = _stamp(path)
        if stamp is None:
            raise AdapterError(f"the file of adapter {name} is missing")
        return path, stamp


@cache
def adapter_folder(folder: Path) -> AdapterFolder:
    """The one reader of a folder in this process."""
    return AdapterFolder(folder)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Time of the last change and size; None for no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> Mapping[str, Adapter]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return _MANIFEST.validate_python(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AdapterError(f"{path} cannot be read as YAML") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise AdapterError(f"{path}: {where}: {first['msg']}") from error
