"""The adapters of a model: a folder with a manifest, which gateway and stages read alike.

The manifest is the truth: whoever reads the folder sees what was added or taken out since.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from kandinsky.catalog.family import AdapterKind
from kandinsky.catalog.overrides import Frozen

MANIFEST, LOCK = "manifest.yaml", ".manifest.lock"
MOST = 8
"""Adapters that one request may name."""
MOST_IMAGES, MOST_IMAGES_IN_ALL = 8, 16
"""Images that one IP-Adapter may show, and those of a request: what is made of them goes to the
decoder in one message."""
SUFFIXES: Mapping[AdapterKind, tuple[str, ...]] = {
    AdapterKind.LORA: (".safetensors",),
    AdapterKind.TEXTUAL_INVERSION: (".safetensors", ".bin", ".pt"),
    AdapterKind.IP_ADAPTER: (".safetensors", ".bin"),
}
"""Of the files; a pickle is read as tensors alone."""


class AdapterError(ValueError):
    """An adapter that cannot be used; the message is one sentence."""


class Adapter(Frozen):
    """An adapter as the manifest declares it."""

    kind: AdapterKind = AdapterKind.LORA
    file: str
    """Inside the folder."""
    token: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S+$")] | None = None
    """What stands for a textual inversion in prompts; None for what its file says."""

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\0" in file:
            raise ValueError("must be a path inside the folder")
        return file

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> "Adapter":
        suffixes = SUFFIXES[self.kind]
        if PurePosixPath(self.file).suffix not in suffixes:
            raise ValueError(f"the file of a {self.kind} ends with {' or '.join(suffixes)}")
        if self.token is not None and self.kind is not AdapterKind.TEXTUAL_INVERSION:
            raise ValueError(f"a {self.kind} has no token")
        return self


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
NAME_RULE = "is 1 to 128 letters, digits, dots, underscores and dashes, the first a letter or digit"
_NAME, _MANIFEST = TypeAdapter(Name), TypeAdapter(dict[Name, Adapter])


class AdapterFolder:
    """A folder of adapters, read again when its manifest has changed.

    Args:
        folder: holds the manifest and the files that it names; without a manifest, no adapters.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: str | None = None
        self._adapters: Mapping[str, Adapter] = {}
        self._lock = threading.Lock()

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

    def named(self, name: str) -> Adapter:
        """The adapter of a name.

        Raises:
            AdapterError: there is none, or the manifest cannot be read.
        """
        known = self.adapters
        if name not in known:
            raise AdapterError(f"is no adapter of this model; it has {_listed(known)}")
        return known[name]

    def path(self, adapter: Adapter) -> Path:
        """Of an adapter's file."""
        return self._folder / adapter.file

    def version(self, adapter: Adapter) -> str:
        """Of an adapter's file: another one when its content is another.

        Raises:
            AdapterError: there is no such file.
        """
        stamp = _stamp(self.path(adapter))
        if stamp is None:
            raise AdapterError(f"the file {adapter.file} is missing")
        return stamp

    def put(self, name: str, adapter: Adapter) -> None:
        """Give an adapter a name, which may be its own already.

        Raises:
            AdapterError: the name is taken, no name, or the manifest cannot be read or written.
        """
        with self._changing() as adapters:
            if adapters.get(name, adapter) != adapter:
                raise AdapterError(f"is taken by {adapters[name].file}; unload that first")
            adapters[name] = adapter

    def remove(self, name: str) -> None:
        """Take a name away; the file stays.

        Raises:
            AdapterError: there is no adapter of that name, or as above.
        """
        with self._changing() as adapters:
            if adapters.pop(name, None) is None:
                raise AdapterError(f"is no adapter of this model; it has {_listed(adapters)}")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Adapter]]:
        """The manifest's adapters, which replace it on leaving; one process at a time is here."""
        try:
            with self._lock, (self._folder / LOCK).open("w") as lock:
                fcntl.lockf(lock, fcntl.LOCK_EX)  # of processes alone
                adapters = dict(self.adapters)
                yield adapters
                if adapters == self.adapters:
                    return
                text = yaml.safe_dump(
                    _MANIFEST.dump_python(adapters, mode="json", exclude_defaults=True)
                )
                made = self._folder / f".{MANIFEST}.{os.getpid()}"
                made.write_text(text, encoding="utf-8")
                made.replace(self._folder / MANIFEST)  # readers see the old one or the new one
        except OSError as error:
            raise AdapterError(f"cannot be written into the manifest: {error.strerror}") from error


@cache
def adapter_folder(folder: Path) -> AdapterFolder:
    """The one reader of a folder in this process."""
    return AdapterFolder(folder)


def is_name(name: str) -> bool:
    """Whether an adapter may be named so."""
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True


def _listed(adapters: Mapping[str, Adapter]) -> str:
    return ", ".join(sorted(adapters)) or "none"


def _stamp(path: Path) -> str | None:
    """Time of the last change and size; None for no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return f"{found.st_mtime_ns}-{found.st_size}"


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
