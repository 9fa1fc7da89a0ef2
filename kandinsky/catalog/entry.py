"""A model as its catalog file declares it.

An entry answers "what is this model?": its family, the checkpoints that fill the family's roles, and
what it overrides. Where it runs and with how many replicas is the Serve configuration's business.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from kandinsky.catalog.families import family
from kandinsky.catalog.family import CanvasKind, FamilySpec, GuideKind, SamplerSpec, Stage


class CatalogError(ValueError):
    """A catalog file that cannot be used; its message is one sentence for the operator."""


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


def _source(value: object) -> str:
    """Tells the kinds of checkpoint apart by a key, so that errors are about the one meant."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    hub = isinstance(value, Mapping) and "hub" in value
    return HubCheckpoint.__name__ if hub else FolderCheckpoint.__name__


def _home(value: object) -> str:
    """Tells a stage of the model's own from another model's."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    shared = isinstance(value, Mapping) and "model" in value
    return SharedStage.__name__ if shared else StageCheckpoints.__name__


Checkpoint = Annotated[
    Annotated[FolderCheckpoint, Tag("FolderCheckpoint")]
    | Annotated[HubCheckpoint, Tag("HubCheckpoint")],
    Discriminator(_source),
]


class StageCheckpoints(_Frozen):
    """The checkpoints that a stage of this model loads, by the roles that its family declares."""

    checkpoints: Mapping[str, Checkpoint]

    @model_validator(mode="before")
    @classmethod
    def _roles_are_keys(cls, value: object) -> object:
        return value if isinstance(value, cls) else {"checkpoints": value}


class SharedStage(_Frozen):
    """A stage that another model already runs; nothing is loaded twice."""

    model: str


StageHome = Annotated[
    Annotated[SharedStage, Tag("SharedStage")]
    | Annotated[StageCheckpoints, Tag("StageCheckpoints")],
    Discriminator(_home),
]

Pixels = Annotated[int, Field(ge=1)]
GuidanceScale = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class SamplerOverrides(_Frozen):
    """What a model changes of a sampler that its family declares; None leaves it."""

    steps: Annotated[int, Field(ge=1)] | None = None
    max_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: GuidanceScale | None = None
    strength: Strength | None = None


class Size(_Frozen):
    """The sizes that a model draws."""

    height: Pixels
    """Where a request names none."""
    width: Pixels
    """Where a request names none."""
    min: Pixels
    """Each side."""
    max: Pixels
    """Each side."""


class Limits(_Frozen):
    """What a request may ask for."""

    max_prompt_characters: int = Field(default=2000, ge=1)
    max_images: int = Field(default=64, ge=1, le=128)
    """Images in one request: items of the guide x images per prompt."""


class CatalogEntry(_Frozen):
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
    guides: tuple[GuideKind, ...] | None = None
    """Some of the family's. None: all."""
    canvases: tuple[CanvasKind, ...] | None = None
    """Some of the family's. None: all whose checkpoints are there."""
    control: bool = False
    """Whether the decoder's UNet draws by a control hint, which every request then has to bring."""

    @model_validator(mode="after")
    def _fits_its_family(self) -> "CatalogEntry":
        spec = self.spec
        self._check_stages(spec)
        for key, own, known in (
            ("guides", self.guides, spec.guides),
            ("canvases", self.canvases, spec.canvases),
        ):
            for kind in own or ():
                if kind not in known:
                    raise ValueError(f"{key}: {spec.title} has no {kind.value}")
        for group in self.samplers:
            if spec.sampler(group) is None:
                raise ValueError(f"samplers: {spec.title} has no sampler {group!r}")
        if self.control and all(part.name != "hint" for part in spec.reads[Stage.DECODER]):
            raise ValueError(f"control: {spec.title} follows no control hint")
        self._check_numbers(spec)
        return self

    def _check_stages(self, spec: FamilySpec) -> None:
        for stage in spec.text_route:
            if stage not in self.stages:
                raise ValueError(f"{spec.title} needs the stage {stage.value}")
        for stage, home in self.stages.items():
            if stage not in spec.text_route:
                raise ValueError(f"{spec.title} has no stage {stage.value}")
            if isinstance(home, SharedStage):
                continue
            roles = {role.name: role for role in spec.stage_roles(stage)}
            for name in home.checkpoints.keys() - roles.keys():
                names = ", ".join(roles)
                raise ValueError(f"stages.{stage.value}: unknown role {name!r}; use {names}")
            for role in roles.values():
                if role.required and role.name not in home.checkpoints:
                    raise ValueError(f"stages.{stage.value}: the role {role.name} is required")

    def _check_numbers(self, spec: FamilySpec) -> None:
        for side in (self.size.height, self.size.width):
            if side % spec.size_multiple:
                raise ValueError(f"size {side} is not a multiple of {spec.size_multiple}")
            if not self.size.min <= side <= self.size.max:
                raise ValueError(f"size {side} is outside {self.size.min} to {self.size.max}")
        for sampler in self.resolved_samplers:
            if not sampler.min_steps <= sampler.steps <= sampler.max_steps:
                raise ValueError(
                    f"samplers.{sampler.group}: {sampler.steps} default steps are outside "
                    f"{sampler.min_steps} to {sampler.max_steps}"
                )

    @property
    def spec(self) -> FamilySpec:
        """The declaration of the family.

        Raises:
            ValueError: no family has that name.
        """
        try:
            return family(self.family)
        except LookupError as error:
            raise ValueError(f"family: {error}") from error

    @property
    def resolved_samplers(self) -> tuple[SamplerSpec, ...]:
        """The family's samplers, in order, with what this model overrides."""
        return tuple(
            replace(sampler, **self.samplers[sampler.group].model_dump(exclude_none=True))
            if sampler.group in self.samplers
            else sampler
            for sampler in self.spec.samplers
        )

    def sampler(self, group: str) -> SamplerSpec | None:
        """The sampler of a settings group; None where the family has none."""
        return next((each for each in self.resolved_samplers if each.group == group), None)

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
