"""A model as its catalog file declares it.

An entry answers "what is this model?": its family, the checkpoints that fill the family's roles,
and what it overrides. Where it runs and with how many replicas is the Serve configuration's
business.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from kandinsky.catalog.adapters import AdapterFolder, adapter_folder
from kandinsky.catalog.families import family
from kandinsky.catalog.family import CanvasKind, FamilySpec, GuideKind, SamplerSpec, Stage
from kandinsky.catalog.overrides import EntryFault, Frozen, Limits, SamplerOverrides, Size


class CatalogError(ValueError):
    """A catalog file that cannot be used; its message is one sentence for the operator."""


class CheckpointFiles(Frozen):
    """What checkpoints have in common, wherever they lie."""

    variant: Annotated[str, Field(pattern=r"^\w+$")] | None = None
    """Of the weight files that are loaded, such as `fp16` of `model.fp16.safetensors`; None for
    those that name none."""


class FolderCheckpoint(CheckpointFiles):
    """A checkpoint in a local folder, in the layout of `save_pretrained`."""

    folder: Path
    """Absolute, or relative to the YAML file that names it."""


class HubCheckpoint(CheckpointFiles):
    """A checkpoint on the Hugging Face hub."""

    hub: str
    """Such as `kandinsky-community/kandinsky-2-2-prior`."""
    revision: str
    """Branch, tag or commit."""

    @property
    def at(self) -> str:
        """As `name@revision`."""
        return f"{self.hub}@{self.revision}"


def _source(value: object) -> str:
    """The kind of a checkpoint, by its keys, so that an error concerns that kind alone."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    hub = isinstance(value, Mapping) and "hub" in value
    return HubCheckpoint.__name__ if hub else FolderCheckpoint.__name__


def _home(value: object) -> str:
    """The kind of a stage: the model's own, or another model's."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    shared = isinstance(value, Mapping) and "model" in value
    return SharedStage.__name__ if shared else StageCheckpoints.__name__


Checkpoint = Annotated[
    Annotated[FolderCheckpoint, Tag("FolderCheckpoint")]
    | Annotated[HubCheckpoint, Tag("HubCheckpoint")],
    Discriminator(_source),
]


class StageCheckpoints(Frozen):
    """The checkpoints that a stage of this model loads, by the roles that its family declares."""

    checkpoints: Mapping[str, Checkpoint]

    @model_validator(mode="before")
    @classmethod
    def _roles_are_keys(cls, value: object) -> object:
        return value if isinstance(value, cls) else {"checkpoints": value}


class SharedStage(Frozen):
    """A stage that another model already runs; nothing is loaded twice."""

    model: str


StageHome = Annotated[
    Annotated[SharedStage, Tag("SharedStage")]
    | Annotated[StageCheckpoints, Tag("StageCheckpoints")],
    Discriminator(_home),
]


class CatalogEntry(Frozen):
    """One model: the checkpoints that fill its family's roles, and what it overrides."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    family: str
    """A key of `kandinsky.catalog.families`."""
    dtype: Literal["float32", "float16", "bfloat16", "float64"] = "float32"
    """The dtype that weights are loaded in."""
    device: str = "auto"
    """`auto` takes CUDA where there is one, else the CPU; otherwise a torch device."""
    stages: Mapping[Stage, StageHome]
    size: Size
    samplers: Mapping[str, SamplerOverrides] = {}
    """By settings group."""
    limits: Limits = Limits()
    guides: Annotated[tuple[GuideKind, ...], Field(min_length=1)] | None = None
    """Some of the family's. None: all."""
    canvases: Annotated[tuple[CanvasKind, ...], Field(min_length=1)] | None = None
    """Some of the family's. None: all whose checkpoints are there."""
    adapters: Path | None = None
    """Folder of adapters, with a manifest. Absolute, or relative to the YAML file that names it."""
    control: bool = False
    """Whether the decoder's UNet draws by a control hint, which every request then has to bring."""

    @property
    def adapter_folder(self) -> AdapterFolder | None:
        """The reader of `adapters`, where there are any."""
        return None if self.adapters is None else adapter_folder(self.adapters)

    @model_validator(mode="after")
    def _fits_its_family(self) -> "CatalogEntry":
        """Raises EntryFault for what contradicts the declaration."""
        try:
            spec = family(self.family)
        except LookupError as error:
            raise EntryFault("family", str(error)) from error
        self._check_stages(spec)
        self._check_kinds("guides", self.guides, spec.guides, spec)
        self._check_kinds("canvases", self.canvases, spec.canvases, spec)
        if self.control and all(part.name != "hint" for part in spec.reads[Stage.DECODER]):
            raise EntryFault("control", f"{spec.title} follows no control hint")
        if self.adapters is not None and not spec.adapters:
            raise EntryFault("adapters", f"{spec.title} takes no adapters")
        try:
            self.size.check(spec.size_multiple)
        except EntryFault as fault:
            raise fault.under("size") from fault
        for group, overrides in self.samplers.items():
            self._check_sampler(group, overrides, spec)
        return self

    def _check_stages(self, spec: FamilySpec) -> None:
        for stage in spec.text_route:
            if stage not in self.stages:
                raise EntryFault("stages", f"{spec.title} needs the stage {stage.value}")
        for stage, home in self.stages.items():
            key = f"stages.{stage.value}"
            if stage not in spec.text_route:
                raise EntryFault(key, f"{spec.title} has no such stage")
            if isinstance(home, SharedStage):
                continue
            roles = {role.name: role for role in spec.stage_roles(stage)}
            for name in home.checkpoints:
                if name not in roles:
                    raise EntryFault(f"{key}.{name}", f"unknown role; use {', '.join(roles)}")
            for role in roles.values():
                if role.required and role.name not in home.checkpoints:
                    raise EntryFault(key, f"the role {role.name} is required")

    @staticmethod
    def _check_kinds(
        key: str, own: Iterable[StrEnum] | None, known: Sequence[StrEnum], spec: FamilySpec
    ) -> None:
        for kind in own or ():
            if kind not in known:
                raise EntryFault(key, f"{spec.title} has no {kind}; use {', '.join(known)}")

    @staticmethod
    def _check_sampler(group: str, overrides: SamplerOverrides, spec: FamilySpec) -> None:
        key, sampler = f"samplers.{group}", spec.sampler(group)
        if sampler is None:
            groups = ", ".join(each.group for each in spec.samplers)
            raise EntryFault(key, f"{spec.title} has no such sampler; use {groups}")
        try:
            overrides.applied(sampler)
        except EntryFault as fault:
            raise fault.under(key) from fault

    @property
    def spec(self) -> FamilySpec:
        """The declaration of the family."""
        return family(self.family)

    @property
    def resolved_samplers(self) -> tuple[SamplerSpec, ...]:
        """The family's samplers, in order, with what this model overrides."""
        return tuple(
            overrides.applied(sampler)
            if (overrides := self.samplers.get(sampler.group)) is not None
            else sampler
            for sampler in self.spec.samplers
        )

    def sampler(self, group: str) -> SamplerSpec | None:
        """The sampler of a settings group; None where the family has none."""
        return next((each for each in self.resolved_samplers if each.group == group), None)

    def stage_samplers(self, stage: Stage) -> tuple[SamplerSpec, ...]:
        """The samplers that a stage of this model runs, in order."""
        return tuple(each for each in self.resolved_samplers if each.stage is stage)

    @property
    def has_guides(self) -> tuple[GuideKind, ...]:
        """The guides that this model follows."""
        return self.spec.guides if self.guides is None else self.guides

    @property
    def has_canvases(self) -> tuple[CanvasKind, ...]:
        """The canvases that this model starts from: those whose checkpoints it names."""
        lacking = {
            canvas
            for role in self.spec.roles
            for canvas in role.canvases
            if isinstance(home := self.stages.get(role.stage), StageCheckpoints)
            and role.name not in home.checkpoints
        }
        own = self.spec.canvases if self.canvases is None else self.canvases
        return tuple(canvas for canvas in own if canvas not in lacking)

    def application(self, stage: Stage) -> str:
        """The Serve application that runs a stage of this model: `<model>-<stage>`."""
        home = self.stages[stage]
        owner = home.model if isinstance(home, SharedStage) else self.name
        return f"{owner}-{stage.value}"

    def checkpoints(self, stage: Stage) -> Mapping[str, Checkpoint]:
        """The checkpoints of a stage that this model runs itself, by role.

        Raises:
            CatalogError: the stage is another model's, or this model has none such.
        """
        home = self.stages.get(stage)
        if not isinstance(home, StageCheckpoints):
            raise CatalogError(f"model {self.name} does not run a {stage.value} stage of its own")
        return home.checkpoints
