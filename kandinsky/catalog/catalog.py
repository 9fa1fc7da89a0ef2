"""Which models exist: one frozen entry a model, read from YAML files.

An entry answers "what is this model?". Where it runs and with how many replicas is the Serve
configuration's business.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

BUILT_IN = Path(__file__).parent


class CatalogError(ValueError):
    """A catalog file that cannot be used; its message is one sentence for the operator."""


class Stage(StrEnum):
    """The three kinds of deployment that a model is split over."""

    ENCODERS = "encoders"
    PRIOR = "prior"
    DECODER = "decoder"


class Flow(StrEnum):
    """The flows of the public API, named as in `Flow` of generation.proto."""

    TEXT_TO_IMAGE = "text_to_image"
    MIX = "mix"
    IMAGE_TO_IMAGE = "image_to_image"
    INPAINT = "inpaint"
    OUTPAINT = "outpaint"
    VARIATION = "variation"
    CONTROL = "control"
    TEXT_GUIDED_EDIT = "text_guided_edit"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FolderCheckpoint(_Frozen):
    """A checkpoint in a local folder, in the layout of `save_pretrained`."""

    folder: Path
    """Absolute, or relative to the YAML file that names it."""


class HubCheckpoint(_Frozen):
    """A checkpoint on the Hugging Face hub."""

    hub: str
    """Such as `kandinsky-community/kandinsky-2-2-prior`."""
    revision: str
    """Branch, tag or commit."""


def _named(*kinds: tuple[str, type[BaseModel]]) -> Discriminator:
    """Tells the members of a union apart by a key, so that errors are about the one meant."""

    def kind(value: object) -> str:
        if isinstance(value, BaseModel):
            return type(value).__name__
        chosen = [model for key, model in kinds if isinstance(value, Mapping) and key in value]
        return (chosen or [kinds[0][1]])[0].__name__

    return Discriminator(kind)


Checkpoint = Annotated[
    Annotated[FolderCheckpoint, Tag("FolderCheckpoint")]
    | Annotated[HubCheckpoint, Tag("HubCheckpoint")],
    _named(("folder", FolderCheckpoint), ("hub", HubCheckpoint)),
]


class StageCheckpoints(_Frozen):
    """The checkpoint that a stage of this model loads."""

    checkpoint: Checkpoint
    inpaint_checkpoint: Checkpoint | None = None
    """The decoder's second network, for masked pictures."""
    decoder_text_checkpoint: Checkpoint | None = None
    """Where the encoders find the text encoder that the decoder reads, if it is another one."""

    @property
    def all(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint that is named."""
        named = (self.checkpoint, self.inpaint_checkpoint, self.decoder_text_checkpoint)
        return tuple(checkpoint for checkpoint in named if checkpoint is not None)


class SharedStage(_Frozen):
    """A stage that another model already runs; nothing is loaded twice."""

    model: str


StageHome = Annotated[
    Annotated[StageCheckpoints, Tag("StageCheckpoints")]
    | Annotated[SharedStage, Tag("SharedStage")],
    _named(("checkpoint", StageCheckpoints), ("model", SharedStage)),
]
_TAGS = {"FolderCheckpoint", "HubCheckpoint", "StageCheckpoints", "SharedStage"}


GuidanceScale = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Defaults(_Frozen):
    """What a setting is when a request leaves it out."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    steps: int = Field(ge=1)
    guidance_scale: GuidanceScale
    prior_steps: int = Field(default=25, ge=2)
    prior_guidance_scale: GuidanceScale = 4.0


class Limits(_Frozen):
    """What a request may ask for."""

    size_multiple: int = Field(ge=1)
    """Heights and widths are multiples of this, in pixels."""
    min_size: int = Field(ge=1)
    """Pixels, each side."""
    max_size: int = Field(ge=1)
    """Pixels, each side."""
    max_steps: int = Field(default=998, ge=2)
    """What every scheduler of `kandinsky.catalog.schedulers` can divide 1,000 noise levels into,
    the first of them left out, as the Kandinsky 2 checkpoints do."""
    max_prompt_characters: int = Field(default=2000, ge=1)
    max_images: int = Field(default=64, ge=1, le=128)
    """Images in one request: prompts x images per prompt."""


class CatalogEntry(_Frozen):
    """One model."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    family: str
    """Chooses the family files of the stages; see their registries."""
    dtype: Literal["float32", "float16", "bfloat16", "float64"] = "float32"
    """The dtype that weights are loaded in."""
    decoder_reads_text: bool = False
    """Whether the decoder follows the prompt beside the image embedding, as Kandinsky 2.1 does."""
    device: str = "auto"
    """`auto` takes CUDA where there is one, else the CPU; otherwise a torch device."""
    stages: Mapping[Stage, StageHome]
    flows: tuple[Flow, ...] = Field(min_length=1)
    defaults: Defaults
    limits: Limits

    @model_validator(mode="after")
    def _defaults_keep_the_limits(self) -> "CatalogEntry":
        for side in (self.defaults.height, self.defaults.width):
            if side % self.limits.size_multiple:
                raise ValueError(
                    f"default size {side} is not a multiple of {self.limits.size_multiple}"
                )
            if not self.limits.min_size <= side <= self.limits.max_size:
                raise ValueError(f"default size {side} is outside the limits")
        if max(self.defaults.steps, self.defaults.prior_steps) > self.limits.max_steps:
            raise ValueError(f"default steps exceed the limit of {self.limits.max_steps}")
        if Stage.DECODER not in self.stages:
            raise ValueError("a model needs a decoder stage")
        return self

    def application(self, stage: Stage) -> str:
        """The Serve application that runs a stage of this model: `<model>-<stage>`."""
        home = self.stages[stage]
        owner = home.model if isinstance(home, SharedStage) else self.name
        return f"{owner}-{stage.value}"

    def checkpoints(self, stage: Stage) -> StageCheckpoints:
        """The checkpoints of a stage that this model runs itself.

        Raises:
            CatalogError: the stage is another model's, or this model has none such.
        """
        home = self.stages.get(stage)
        if not isinstance(home, StageCheckpoints):
            raise CatalogError(f"model {self.name} does not run a {stage.value} stage of its own")
        return home


class Catalog:
    """The models by name."""

    def __init__(self, entries: Iterable[CatalogEntry]) -> None:
        self._entries = {entry.name: entry for entry in entries}

    @classmethod
    def load(cls, folders: Iterable[Path] = ()) -> "Catalog":
        """Reads the built-in entries, then every `*.yaml` in `folders`; later ones replace earlier.

        Raises:
            CatalogError: a folder is missing, or a file is not a valid entry.
        """
        entries: dict[str, CatalogEntry] = {}
        for folder in (BUILT_IN, *folders):
            if not folder.is_dir():
                raise CatalogError(f"catalog folder {folder} does not exist")
            for path in sorted(folder.glob("*.yaml")):
                entry = read_entry(path)
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
    """Reads one catalog file; relative checkpoint folders are taken from the file's own folder.

    Raises:
        CatalogError: the file is no YAML, or is no valid entry; the message names file and key.
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
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in _TAGS) or "the entry"
        raise CatalogError(f"{path}: {key}: {first['msg']}") from error
    stages = {stage: _anchored(home, path.parent) for stage, home in entry.stages.items()}
    return entry.model_copy(update={"stages": stages})


def _anchored(home: StageCheckpoints | SharedStage, folder: Path) -> StageCheckpoints | SharedStage:
    if isinstance(home, SharedStage):
        return home

    def anchor(checkpoint: Checkpoint | None) -> Checkpoint | None:
        if isinstance(checkpoint, FolderCheckpoint):
            return FolderCheckpoint(folder=(folder / checkpoint.folder).resolve())
        return checkpoint

    return home.model_copy(
        update={
            "checkpoint": anchor(home.checkpoint),
            "inpaint_checkpoint": anchor(home.inpaint_checkpoint),
            "decoder_text_checkpoint": anchor(home.decoder_text_checkpoint),
        }
    )


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
