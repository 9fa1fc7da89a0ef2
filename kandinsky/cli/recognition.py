"""What a checkpoint is, by its index and its configuration files; no weights are read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import CheckpointLayout, FamilySpec
from kandinsky.cli.checkpoint_files import variants, weight_names

INDEX = "model_index.json"


class UnrecognisedError(ValueError):
    """A checkpoint of an unknown kind; the message is one sentence."""


@dataclass(frozen=True)
class Files:
    """The files of a checkpoint, in a folder or on the hub."""

    sizes: Mapping[str, int]
    """Bytes of each file, by its path with slashes."""
    read: Callable[[str], bytes]

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder."""
        paths = map(PurePosixPath, self.sizes)
        return [path.name for path in paths if path.parent == PurePosixPath(folder)]

    def json(self, path: str) -> dict[str, Any]:
        """A JSON file, {} if it is not there.

        Raises:
            UnrecognisedError: it holds something else.
        """
        if path not in self.sizes:
            return {}
        try:
            value = json.loads(self.read(path))
        except ValueError as error:
            raise UnrecognisedError(f"{path} is not JSON") from error
        if not isinstance(value, dict):
            raise UnrecognisedError(f"{path} holds no JSON object")
        return value


_CLASS_KEYS = {
    "scheduler_config.json": "_class_name",
    "tokenizer_config.json": "tokenizer_class",
    "preprocessor_config.json": "image_processor_type",
}
"""Where a part that has no network names its class, by its file."""
_WITHOUT_WEIGHTS = ("tokenizer", "image_processor", "scheduler")


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint folder: a layout, as a pipeline class of it names it."""

    title: str
    family: FamilySpec
    """The family that declares the layout."""
    layout: CheckpointLayout
    combined: bool = False
    """Whether the folder holds a prior as well, under names that no stage loads."""


def kinds() -> dict[str, Kind]:
    """The known kinds by the pipeline class that a checkpoint's index names."""
    found: dict[str, Kind] = {}
    for spec in (family(name) for name in FAMILIES):
        for layout in spec.layouts:
            for pipeline in layout.pipelines:
                found[pipeline] = Kind(layout.title, spec, layout)
            for pipeline in layout.combined:
                title = f"{layout.title}, a prior beside it"
                found[pipeline] = Kind(title, spec, layout, combined=True)
    return found


@dataclass(frozen=True)
class Part:
    """One subfolder of a checkpoint."""

    name: str
    kind: str
    """Its class, as far as its files name it."""
    bytes: int
    """Of its weights; 0 for a tokenizer, an image processor or a scheduler."""
    network: bool
    """Whether it is a network, which has a configuration and weights."""


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint is."""

    pipeline: str
    kind: Kind
    parts: tuple[Part, ...]
    variant: str | None
    """Of the weights that a catalog entry names to load it; None for those that name none."""
    faults: tuple[str, ...]
    """Why it cannot be served, one sentence each; none if it can."""

    @property
    def serves(self) -> str:
        """Where a catalog entry of the family names it, and how."""
        keys = ", ".join(f"stages.{stage.value}.{role}" for stage, role in self.kind.layout.roles)
        variant = f", with variant: {self.variant}" if self.variant else ""
        alone = "; encoders and prior need the prior in a folder of its own"
        return keys + variant + (alone if self.kind.combined else "")


def recognise(files: Files) -> Recognised:
    """Recognise a checkpoint, and find why it cannot be served.

    Raises:
        UnrecognisedError: no family declares its kind.
    """
    known = kinds()
    index, unet = files.json(INDEX), files.json("unet/config.json")
    pipeline = str(index.get("_class_name") or _by_network(files, unet))
    if pipeline not in known:
        raise UnrecognisedError(f"{INDEX} names {pipeline}, which no family of this release serves")
    folders = sorted({PurePosixPath(path).parts[0] for path in files.sizes if "/" in path})
    kind = known[pipeline]
    variant = _variant(kind.layout, files)
    parts = tuple(_part(name, index, files, variant) for name in folders)
    return Recognised(pipeline, kind, parts, variant, tuple(_faults(kind, parts, unet)))


def _by_network(files: Files, unet: Mapping[str, Any]) -> str:
    """The first pipeline of the layout that the networks' configurations fit."""
    prior = files.json("prior/config.json").get("_class_name") == "PriorTransformer"
    # Priors of several families have the same files: that of the family declared last counts.
    for spec in map(family, reversed([*FAMILIES])):
        for layout in spec.layouts:
            is_prior = not unet and prior and "prior" in layout.parts
            if is_prior or (unet and layout.unet and not _differences(layout.unet, unet)):
                return layout.pipelines[0]
    raise UnrecognisedError(f"there is no {INDEX}, and no network of a known kind")


def _variant(layout: CheckpointLayout, files: Files) -> str | None:
    """The variant that each network of a layout has weights of: none where there are such."""
    found = [variants(files.names(part)) for part in layout.parts if part not in _WITHOUT_WEIGHTS]
    shared = set.intersection(*found)
    return None if None in shared else min(map(str, shared), default=None)


def _part(name: str, index: Mapping[str, Any], files: Files, variant: str | None) -> Part:
    config = files.json(f"{name}/config.json")
    listed = index.get(name)
    named = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
    kind = named or config.get("_class_name") or (config.get("architectures") or [None])[0]
    weights = sum(
        files.sizes[f"{name}/{file}"] for file in weight_names(files.names(name), variant)
    )
    return Part(name, str(kind or _without_weights(name, files)), weights, bool(config))


def _without_weights(part: str, files: Files) -> str:
    """The class of a part that has no network, by its own file."""
    for file, key in _CLASS_KEYS.items():
        if found := files.json(f"{part}/{file}").get(key):
            return str(found)
    return "unknown"


def _faults(kind: Kind, parts: tuple[Part, ...], unet: Mapping[str, Any]) -> list[str]:
    layout = kind.layout
    there = {part.name: part for part in parts}
    faults = [f"part {name} is missing" for name in layout.parts if name not in there]
    for name in layout.parts:
        if name not in there or name in _WITHOUT_WEIGHTS:
            continue
        if not there[name].network:
            faults.append(f"part {name} has no config.json")
        elif not there[name].bytes:
            faults.append(f"part {name} holds no weights")
    return faults + ([] if layout.unet is None or not unet else _differences(layout.unet, unet))


def _differences(expected: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    return [
        f"the UNet's {key} is {config.get(key)!r}, not {value!r}"
        for key, value in expected.items()
        if config.get(key) != value
    ]
