"""What a checkpoint is, by its index and its configuration files; no weights are read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

INDEX = "model_index.json"


class UnrecognisedError(ValueError):
    """Nothing known lies there; the message is one sentence."""


@dataclass(frozen=True)
class Files:
    """The files of a checkpoint, in a folder or on the hub."""

    sizes: Mapping[str, int]
    """Bytes of each file, by its path with slashes."""
    read: Callable[[str], bytes]

    def json(self, path: str) -> dict[str, Any]:
        """A JSON file, {} if it is not there.

        Raises:
            UnrecognisedError: it holds no JSON object.
        """
        if path not in self.sizes:
            return {}
        try:
            value = json.loads(self.read(path))
        except ValueError as error:
            raise UnrecognisedError(f"{path} is no JSON") from error
        if not isinstance(value, dict):
            raise UnrecognisedError(f"{path} holds no JSON object")
        return value


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint folder."""

    what: str
    family: str = ""
    """The family that serves it; empty where none does yet."""
    serves: str = ""
    """Where a catalog entry of that family names it."""
    parts: tuple[str, ...] = ()
    """The subfolders that are loaded."""
    unet: Mapping[str, Any] | None = None
    """What the UNet's configuration says in this kind, and in no other of its family."""


_PRIOR_PARTS = (
    *("tokenizer", "text_encoder", "image_processor", "image_encoder"),
    *("prior", "scheduler"),
)
_WITHOUT_WEIGHTS = ("tokenizer", "image_processor", "scheduler")
_CLASS_KEYS = {
    "scheduler_config.json": "_class_name",
    "tokenizer_config.json": "tokenizer_class",
    "preprocessor_config.json": "image_processor_type",
}
"""Where a part that is no network names its class, by its file."""
_DECODER_PARTS = ("unet", "scheduler", "movq")
_2_1 = {"encoder_hid_dim_type": "text_image_proj"}
_2_2 = {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
_HINT = {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image_hint"}

_PRIOR_2_1 = Kind(
    "prior of Kandinsky 2.1", "kandinsky-2-1", "encoders and prior: checkpoint", _PRIOR_PARTS
)
_DECODER_2_1 = Kind(
    "decoder of Kandinsky 2.1",
    "kandinsky-2-1",
    "decoder: checkpoint; encoders: decoder_text_checkpoint",
    ("tokenizer", "text_encoder", *_DECODER_PARTS),
    {**_2_1, "in_channels": 4},
)
_INPAINT_2_1 = Kind(
    "inpainting decoder of Kandinsky 2.1",
    *("kandinsky-2-1", "decoder: inpaint_checkpoint", _DECODER_PARTS),
    {**_2_1, "in_channels": 9},
)
_PRIOR_2_2 = Kind(
    "prior of Kandinsky 2.2", "kandinsky-2-2", "encoders and prior: checkpoint", _PRIOR_PARTS
)
_DECODER_2_2 = Kind(
    "decoder of Kandinsky 2.2",
    *("kandinsky-2-2", "decoder: checkpoint", _DECODER_PARTS, {**_2_2, "in_channels": 4}),
)
_INPAINT_2_2 = Kind(
    "inpainting decoder of Kandinsky 2.2",
    *("kandinsky-2-2", "decoder: inpaint_checkpoint", _DECODER_PARTS),
    {**_2_2, "in_channels": 9},
)
_CONTROL_2_2 = Kind(
    "depth-controlled decoder of Kandinsky 2.2",
    *("kandinsky-2-2", "decoder: checkpoint", _DECODER_PARTS, {**_HINT, "in_channels": 8}),
)


def _combined(kind: Kind) -> Kind:
    """A decoder whose folder holds a prior too, under names that no stage loads from."""
    return replace(
        kind,
        what=f"{kind.what}, a prior beside it",
        serves=f"{kind.serves}; encoders and prior need the prior in a folder of its own",
    )


KINDS: Mapping[str, Kind] = {
    "KandinskyV22PriorPipeline": _PRIOR_2_2,
    "KandinskyV22PriorEmb2EmbPipeline": _PRIOR_2_2,
    "KandinskyV22Pipeline": _DECODER_2_2,
    "KandinskyV22Img2ImgPipeline": _DECODER_2_2,
    "KandinskyV22CombinedPipeline": _combined(_DECODER_2_2),
    "KandinskyV22Img2ImgCombinedPipeline": _combined(_DECODER_2_2),
    "KandinskyV22InpaintPipeline": _INPAINT_2_2,
    "KandinskyV22InpaintCombinedPipeline": _combined(_INPAINT_2_2),
    "KandinskyV22ControlnetPipeline": _CONTROL_2_2,
    "KandinskyV22ControlnetImg2ImgPipeline": _CONTROL_2_2,
    "KandinskyPriorPipeline": _PRIOR_2_1,
    "KandinskyPipeline": _DECODER_2_1,
    "KandinskyImg2ImgPipeline": _DECODER_2_1,
    "KandinskyCombinedPipeline": _combined(_DECODER_2_1),
    "KandinskyImg2ImgCombinedPipeline": _combined(_DECODER_2_1),
    "KandinskyInpaintPipeline": _INPAINT_2_1,
    "KandinskyInpaintCombinedPipeline": _combined(_INPAINT_2_1),
    "Kandinsky3Pipeline": Kind("Kandinsky 3"),
    "UnCLIPPipeline": Kind("Karlo unCLIP"),
    "UnCLIPImageVariationPipeline": Kind("Karlo unCLIP image variation"),
    "VersatileDiffusionPipeline": Kind("Versatile Diffusion"),
    "StableDiffusionInpaintPipeline": Kind("Stable Diffusion inpainting"),
}
"""By the pipeline class that a checkpoint's index names."""


@dataclass(frozen=True)
class Part:
    """One subfolder of a checkpoint."""

    name: str
    kind: str
    """Its class, as far as its files tell."""
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
    faults: tuple[str, ...]
    """Why it cannot be served, one sentence each; none if it can."""


def recognise(files: Files) -> Recognised:
    """Tells what a checkpoint is and whether it can be served.

    Raises:
        UnrecognisedError: it is nothing that this system knows.
    """
    index, unet = files.json(INDEX), files.json("unet/config.json")
    pipeline = index.get("_class_name") or _by_network(files, unet)
    kind = KINDS.get(str(pipeline))
    if kind is None:
        raise UnrecognisedError(f"{INDEX} names {pipeline}, which this system does not know")
    folders = sorted({PurePosixPath(path).parts[0] for path in files.sizes if "/" in path})
    parts = tuple(_part(name, index, files) for name in folders)
    return Recognised(pipeline, kind, parts, tuple(_faults(kind, parts, unet)))


def _by_network(files: Files, unet: Mapping[str, Any]) -> str:
    if not unet and files.json("prior/config.json").get("_class_name") == "PriorTransformer":
        return "KandinskyV22PriorPipeline"  # that of 2.1 has the same files
    for pipeline, kind in KINDS.items():
        if kind.unet is not None and unet and not _differences(kind.unet, unet):
            return pipeline
    raise UnrecognisedError(f"there is no {INDEX}, and no network of a known kind")


def _part(name: str, index: Mapping[str, Any], files: Files) -> Part:
    config = files.json(f"{name}/config.json")
    listed = index.get(name)
    named = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
    kind = named or config.get("_class_name") or (config.get("architectures") or [None])[0]
    return Part(
        name, str(kind or _without_weights(name, files)), _weight_bytes(name, files), bool(config)
    )


def _without_weights(part: str, files: Files) -> str:
    """The class of a part that is no network, by its own file."""
    for file, key in _CLASS_KEYS.items():
        if found := files.json(f"{part}/{file}").get(key):
            return str(found)
    return "unknown"


def _weight_bytes(part: str, files: Files) -> int:
    """As `checkpoint_files.weight_files` chooses: safetensors first, no other precisions."""
    paths = [PurePosixPath(path) for path in files.sizes]
    own = [path for path in paths if path.parent == PurePosixPath(part) and "." not in path.stem]
    for suffix in (".safetensors", ".bin"):
        if chosen := [path for path in own if path.suffix == suffix]:
            return sum(files.sizes[str(path)] for path in chosen)
    return 0


def _faults(kind: Kind, parts: tuple[Part, ...], unet: Mapping[str, Any]) -> list[str]:
    if not kind.family:
        return [f"no family of this release serves {kind.what}"]
    there = {part.name: part for part in parts}
    faults = [f"part {name} is missing" for name in kind.parts if name not in there]
    for name in kind.parts:
        if name not in there or name in _WITHOUT_WEIGHTS:
            continue
        if not there[name].network:
            faults.append(f"part {name} has no config.json")
        elif not there[name].bytes:
            faults.append(f"part {name} holds no weights")
    return faults + ([] if kind.unet is None or not unet else _differences(kind.unet, unet))


def _differences(wanted: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    return [
        f"the UNet's {key} is {config.get(key)!r}, not {value!r}"
        for key, value in wanted.items()
        if config.get(key) != value
    ]
