"""Which models exist: one frozen entry a model, read from YAML files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from kandinsky.catalog import lock
from kandinsky.catalog.entry import (
    CatalogEntry,
    CatalogError,
    FolderCheckpoint,
    SharedStage,
    StageCheckpoints,
)
from kandinsky.catalog.overrides import EntryFault

BUILT_IN = Path(__file__).parent
_TAGS = {"FolderCheckpoint", "HubCheckpoint", "StageCheckpoints", "SharedStage", "checkpoints"}
"""Of unions: not keys of a file."""


class Catalog:
    """The models by name."""

    def __init__(self, entries: Iterable[CatalogEntry]) -> None:
        self._entries = {entry.name: entry for entry in entries}

    @classmethod
    def load(cls, folders: Iterable[Path] = ()) -> "Catalog":
        """Reads the built-in entries, then every `*.yaml` in `folders`; later ones replace earlier.

        Hub revisions become the commits of the folder's lock, where it has one.

        Raises:
            CatalogError: a folder is missing, or a file is not a valid entry or lock.
        """
        entries: dict[str, CatalogEntry] = {}
        for folder in (BUILT_IN, *folders):
            if not folder.is_dir():
                raise CatalogError(f"catalog folder {folder} does not exist")
            commits = lock.read(folder)
            for path in sorted(folder.glob("*.yaml")):
                entry = lock.locked(read_entry(path), commits)
                entries[entry.name] = entry
        return cls(entries.values())

    @property
    def names(self) -> list[str]:
        """Names of all models, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> CatalogEntry:
        """The entry of a model.

        Raises:
            CatalogError: no model has that name, or it shares a stage that no model runs.
        """
        if name not in self._entries:
            raise CatalogError(f"no model {name!r} in the catalog; it has {', '.join(self.names)}")
        # Not before it is asked for: an entry may replace one that others share with.
        _check_shared_stages(self._entries[name], self._entries)
        return self._entries[name]


def read_entry(path: Path) -> CatalogEntry:
    """Read one catalog file; relative checkpoint folders are taken from the file's own folder.

    Raises:
        CatalogError: the file is not YAML, or not a valid entry; the message names file and key.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogError(f"{path} cannot be read as YAML: {_one_line(error)}") from error
    if not isinstance(raw, dict):
        raise CatalogError(f"{path} must hold one mapping, the model's entry")
    try:
        entry = CatalogEntry.model_validate(raw)
    except ValidationError as error:
        key, why = _fault(error)
        raise CatalogError(f"{path}: {key}: {why}") from error
    stages = {stage: _anchored(home, path.parent) for stage, home in entry.stages.items()}
    adapters = None if entry.adapters is None else (path.parent / entry.adapters).resolve()
    return entry.model_copy(update={"stages": stages, "adapters": adapters})


def _fault(error: ValidationError) -> tuple[str, str]:
    """Key and sentence of the first fault of an entry."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, EntryFault):
        return cause.key, cause.why
    return ".".join(str(part) for part in first["loc"] if part not in _TAGS), first["msg"]


def _anchored(home: StageCheckpoints | SharedStage, folder: Path) -> StageCheckpoints | SharedStage:
    if isinstance(home, SharedStage):
        return home
    anchored = {
        role: checkpoint.model_copy(update={"folder": (folder / checkpoint.folder).resolve()})
        if isinstance(checkpoint, FolderCheckpoint)
        else checkpoint
        for role, checkpoint in home.checkpoints.items()
    }
    return home.model_copy(update={"checkpoints": anchored})


def _check_shared_stages(entry: CatalogEntry, entries: Mapping[str, CatalogEntry]) -> None:
    for stage, home in entry.stages.items():
        if isinstance(home, SharedStage):
            owner = entries.get(home.model)
            if owner is None or not isinstance(owner.stages.get(stage), StageCheckpoints):
                raise CatalogError(
                    f"model {entry.name} shares the {stage.value} stage of {home.model!r}, "
                    "which runs none"
                )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
