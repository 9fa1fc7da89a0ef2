"""What a checked request resolves to: every default applied, one entry an image.

Every flow is two choices: what steers the image (`Guide`) and what its canvas starts as (`Start`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.crops import Crop
from gateway.inputs import Picture
from gateway.settings import Settings
from gateway.undecoded import Undecoded
from kandinsky.catalog.catalog import CatalogEntry, Flow, Stage
from kandinsky.v1 import sampling_pb2, tensor_pb2

EMPTY_TEXT = "negative_prompts"
"""Key of "" in `Plan.texts`: what guidance leaves where nothing unwanted is named."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where an image embedding comes from; one of the three is set. Equal to itself alone."""

    field: str
    """Its path in the request."""
    text: str | None = None
    """Key in the plan's texts: a run of the prior."""
    picture: str | None = None
    """Key in the plan's pictures: the image encoder."""
    embed: tensor_pb2.Tensor | None = None
    """[D], as the request gave it."""


@dataclass(frozen=True)
class Term:
    """A part of a blend of image embeddings."""

    source: Source
    weight: float = 1.0


@dataclass(frozen=True)
class Turn:
    """Moves an image embedding along the difference of two texts."""

    source_text: str
    """Key in the plan's texts."""
    target_text: str
    """Key in the plan's texts."""
    amount: float
    """Share of the angle to the difference, 0 to 1."""


@dataclass(frozen=True)
class PriorStart:
    """The prior starts from a picture's embedding instead of noise."""

    picture: str
    """Key in the plan's pictures."""
    strength: float


@dataclass(frozen=True)
class Guide:
    """What steers an image: the conditioning of prior and decoder."""

    terms: tuple[Term, ...] = ()
    """The image embedding; none for a family whose decoder follows texts alone."""
    spherical: bool = False
    """Whether the terms are blended along great circles rather than summed."""
    turn: Turn | None = None
    prior_start: PriorStart | None = None
    unwanted: str | None = None
    """Key of the text that prior runs steer away from; None for ""."""
    negative: Source | None = None
    """The image embedding to steer away from; None for the encoders' zero embedding."""
    text: str | None = None
    """Key of what a decoder that reads text is told; None for one that reads none."""
    negative_text: str | None = None
    """Key of what such a decoder steers away from; None for ""."""

    def runs_prior(self, settings: Settings) -> bool:
        """Whether an embedding of it is the prior's to make."""
        sources = [term.source for term in self.terms if term.weight]
        if settings.guided and self.negative is not None:
            sources.append(self.negative)
        return any(source.text is not None for source in sources)


@dataclass(frozen=True)
class Start:
    """What an image's canvas starts as."""

    canvas: sampling_pb2.Canvas
    """Without the noise, which each image has of its own."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Paths in the public request, by the start of the path in DecodeRequest."""
    hint: tensor_pb2.Tensor | None = None
    """float32 [3, H, W] from 0 to 1: a control hint."""
    crop: Crop | None = None
    """The part of a larger picture that the canvas is."""


@dataclass(frozen=True)
class PendingStart:
    """A start whose images are still to be decoded."""

    make: Callable[[], Start]
    """Makes it once `inputs` are decoded; raises KandinskyError where their content does not do."""
    inputs: tuple[Undecoded[Any], ...] = ()
    crops: Undecoded[Picture] | None = None
    """The picture that it keeps until the image is answered, and of whose size its mask is."""


@dataclass(frozen=True)
class ImagePlan:
    """One image of a request: one job of the decoder, and what leads to it."""

    index: int
    seed: int
    guide: Guide
    start: Start
    latents: tensor_pb2.Tensor | None = None
    """[C, h, w] initial noise of the decoder."""
    prior_latents: tensor_pb2.Tensor | None = None
    """[D] initial noise of the prior."""


@dataclass(frozen=True)
class Draft:
    """A request that passed every check that needs neither a checkpoint nor a decoded image."""

    entry: CatalogEntry
    flow: Flow
    settings: Settings
    texts: Mapping[str, str]
    """What to encode, by field path of the request."""
    shown: Mapping[str, Undecoded[Picture]]
    """What the image encoder is to see, by field path of the request."""
    starts: tuple[PendingStart, ...]
    count: int
    """Images that it asks for."""
    images: Callable[[Sequence[Start]], tuple[ImagePlan, ...]]
    """The images, of what `starts` have become."""
    output_pixels: tuple[int, ...]
    """Pixels of each answered image."""
    runs_prior: bool
    """Whether an image needs a run of the prior."""
    strengths: Mapping[Stage, float]
    """Share of the steps that is run, by the stage; all where it is not named."""

    def steps(self, stage: Stage) -> int:
        """Steps that an image takes at a stage: 0 where it has nothing to do there."""
        settings = self.settings
        if stage is Stage.DECODER:
            steps = settings.steps
        else:
            steps = settings.prior.steps if self.runs_prior and settings.prior else 0
        return int(steps * self.strengths.get(stage, 1.0))

    @property
    def inputs(self) -> tuple[Undecoded[Any], ...]:
        """What is decoded, each once."""
        pending = (one for start in self.starts for one in start.inputs)
        return tuple(dict.fromkeys([*self.shown.values(), *pending]))

    @property
    def shown_pixels(self) -> int:
        """Pixels that are held until the image encoder has answered."""
        return sum(picture.pixels for picture in self.shown.values())

    @property
    def kept_pixels(self) -> int:
        """Pixels that are held until the request ends: cropped pictures, and a mask each start."""
        cropped = [start.crops for start in self.starts if start.crops is not None]
        return sum(picture.pixels for picture in [*dict.fromkeys(cropped), *cropped])

    @property
    def pixels(self) -> int:
        """Pixels that are held at most."""
        decoded = sum(one.pixels for one in self.inputs)
        return max(decoded, self.shown_pixels + self.kept_pixels)


@dataclass(frozen=True)
class Plan:
    """A request that passed every check that needs no checkpoint."""

    entry: CatalogEntry
    settings: Settings
    texts: Mapping[str, str]
    """What to encode, by field path of the request."""
    images: tuple[ImagePlan, ...]


def needed_texts(
    guides: Iterable[Guide], texts: Mapping[str, str], settings: Settings, *, zero: bool
) -> dict[str, str]:
    """The texts that some guides need, in the request's order, "" last.

    Args:
        guides: what is planned.
        texts: the request's, by path.
        settings: tell which sides of guidance are there.
        zero: whether the encoders' zero embedding can come with texts alone.
    """
    keys: set[str | None] = set()
    for guide in guides:
        sources = [term.source for term in guide.terms]
        if guide.turn is not None:
            keys |= {guide.turn.source_text, guide.turn.target_text}
        if settings.guided and guide.negative is not None:
            sources.append(guide.negative)
        runs = {source.text for source in sources if source.text is not None}
        keys |= runs | {guide.text}
        if runs and settings.prior_guided:
            keys.add(guide.unwanted or EMPTY_TEXT)
        if settings.guided and guide.text is not None:
            keys.add(guide.negative_text or EMPTY_TEXT)
        if settings.guided and guide.terms and guide.negative is None and zero and not runs:
            keys.add(EMPTY_TEXT)
    needed = {key: text for key, text in texts.items() if key in keys}
    return {**needed, EMPTY_TEXT: ""} if EMPTY_TEXT in keys else needed
