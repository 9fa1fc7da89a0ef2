"""What a family of models is: a declaration that gateway, SDK, commands and stages interpret.

A declaration names no code and imports none; what runs a family's networks is in the registries of
`services/*/families`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """The three kinds of deployment that a model is split over."""

    ENCODERS = "encoders"
    PRIOR = "prior"
    DECODER = "decoder"


class GuideKind(StrEnum):
    """What images show, named as in `Guide` of guide.proto."""

    TEXT = "text"
    MIX = "mix"
    INTERPOLATION = "interpolation"
    IMAGE = "image"
    TEXT_DIFF = "text_diff"
    TEXT_AND_IMAGE = "text_and_image"
    EMBEDDINGS = "embeddings"


class CanvasKind(StrEnum):
    """Where denoising starts, named as in `Canvas` of canvas.proto; NOISE where there is none."""

    NOISE = "noise"
    IMAGE = "image"
    INPAINT = "inpaint"
    OUTPAINT = "outpaint"


class AdapterKind(StrEnum):
    """What an adapter changes."""

    LORA = "lora"
    """Low-rank differences of weights: arXiv 2106.09685."""
    TEXTUAL_INVERSION = "textual-inversion"
    """A token of prompts with embeddings of its own: arXiv 2208.01618."""
    IP_ADAPTER = "ip-adapter"
    """Images that the network attends to beside the text: arXiv 2308.06721."""


class Resampling(StrEnum):
    """How an image is brought to the decoder's size."""

    BICUBIC = "bicubic"
    """After a reduction by a whole number."""
    LANCZOS = "lanczos"


class Unconditional(StrEnum):
    """What the unconditional side of guidance reads where a request names nothing negative."""

    EMPTY_TEXT = "empty text"
    """The encoding of ""."""
    ZERO_IMAGE = "zero image"
    """The image encoder's output for a zero tensor."""
    BLANK_IMAGE = "blank image"
    """The image encoder's states of the image that stands for none."""
    ZEROS = "zeros"
    LEARNED = "learned"
    """Weights of the stage's own network."""


@dataclass(frozen=True)
class ConditioningField:
    """A field of `Conditioning` that a stage reads; `negative_` before it names the other side."""

    name: str
    axes: tuple[str, ...]
    """The role of each axis: `embedding`, `tokens`, `patches`, `height`, `width`, or a number."""
    unconditional: Unconditional | None = None
    """None for a field that has no negative side."""
    optional: bool = False
    """Whether zeros stand for it where it is left out."""

    @property
    def of_text(self) -> bool:
        """Whether a text encoder makes it."""
        return self.name.startswith("text_")


OPTIONS = ("timesteps", "sigmas", "clip_skip", "free_u", "masked_image_latents")
"""Fields of settings and canvases that a family takes only if its sampler declares them."""


@dataclass(frozen=True)
class SamplerSpec:
    """A denoising loop, and the defaults and bounds of its settings group."""

    group: str
    """Its settings group in a request: `prior`, `decoder` or `super_resolution`."""
    stage: Stage
    steps: int
    """Denoising steps where a request names none."""
    guidance_scale: float
    """Classifier-free guidance scale where a request names none."""
    min_steps: int = 1
    max_steps: int = 998
    """What every scheduler of `kandinsky.catalog.schedulers` can divide 1,000 noise levels into,
    the first of them left out, as the Kandinsky 2 checkpoints do."""
    strength: float = 1.0
    """Share of the steps that is run from an image with noise added."""
    fixed_scheduler: bool = False
    """Whether no other noise scheduler can be chosen: the checkpoint was trained on its levels."""
    step_cache: bool = False
    """Whether its network's deep blocks can be left out between whole passes."""
    inpaint_strength: float = 1.0
    """The same where a part of an image is generated; 1 starts from noise alone."""
    options: tuple[str, ...] = ()
    """What it takes of OPTIONS; every other one of them is refused."""


@dataclass(frozen=True)
class CheckpointRole:
    """What a checkpoint of a stage is for."""

    stage: Stage
    name: str
    """Key under the stage in a catalog entry."""
    parts: tuple[str, ...]
    """Subfolders that are loaded."""
    required: bool = True
    canvases: tuple[CanvasKind, ...] = ()
    """Canvases that need it."""


@dataclass(frozen=True)
class CheckpointLayout:
    """A checkpoint folder as it is published, by which `kandinsky inspect` recognises it."""

    title: str
    pipelines: tuple[str, ...]
    """Pipeline classes that its index may name."""
    roles: tuple[tuple[Stage, str], ...]
    """The roles that it fills: stage and name."""
    parts: tuple[str, ...]
    """Subfolders that it has to have."""
    unet: Mapping[str, Any] | None = None
    """What the UNet's configuration says in this layout, and in no other of its family."""
    combined: tuple[str, ...] = ()
    """Pipeline classes of a folder that holds a prior as well, under names that no stage loads."""


@dataclass(frozen=True)
class FamilySpec:
    """A family of models that the same code runs."""

    name: str
    """Such as `kandinsky-2-2`; a catalog entry's `family`."""
    title: str
    """Such as `Kandinsky 2.2`."""
    text_route: tuple[Stage, ...]
    """The stages that a text passes: with or without the prior."""
    guides: tuple[GuideKind, ...]
    canvases: tuple[CanvasKind, ...]
    reads: Mapping[Stage, tuple[ConditioningField, ...]]
    """What each sampling stage reads of Conditioning; it refuses every other field."""
    samplers: tuple[SamplerSpec, ...]
    """In the order in which an image passes them."""
    size_multiple: int
    """Heights and widths are multiples of this, in pixels."""
    latent_scale: int
    """Pixels along one side of a latent cell."""
    roles: tuple[CheckpointRole, ...]
    adapters: tuple[AdapterKind, ...] = ()
    """The kinds of adapters that its networks take."""
    one_generator: bool = False
    """Whether the decoder draws its noise from where the prior's generator stopped."""
    layouts: tuple[CheckpointLayout, ...] = field(default=(), repr=False)
    resampling: Resampling = Resampling.BICUBIC
    """Of images that are not of the decoder's size."""

    @property
    def has_prior(self) -> bool:
        """Whether the text route passes the prior."""
        return Stage.PRIOR in self.text_route

    @property
    def decoder_reads_text(self) -> bool:
        """Whether the decoder reads an encoded text."""
        return any(conditioning.of_text for conditioning in self.reads[Stage.DECODER])

    @property
    def samples_encoded_text(self) -> bool:
        """Whether the prior takes a text that the caller encoded: the decoder reads the same."""
        texts = tuple(part for part in self.reads[Stage.DECODER] if part.of_text)
        return self.has_prior and texts == self.reads[Stage.PRIOR]

    @property
    def decoder_reads_image(self) -> bool:
        """Whether the decoder reads an image embedding."""
        return any(part.name == "image_embed" for part in self.reads[Stage.DECODER])

    @property
    def decoder_attends_to_image(self) -> bool:
        """Whether the decoder reads an image's states."""
        return any(part.name == "image_states" for part in self.reads[Stage.DECODER])

    def sampler(self, group: str) -> SamplerSpec | None:
        """The sampler of a settings group; None where the family has none."""
        return next((sampler for sampler in self.samplers if sampler.group == group), None)

    def stage_roles(self, stage: Stage) -> tuple[CheckpointRole, ...]:
        """The checkpoint roles of a stage."""
        return tuple(role for role in self.roles if role.stage is stage)
