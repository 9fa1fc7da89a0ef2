"""What a request is planned as: every text once, and each image with what leads to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.planning.canvases import Start
from gateway.requests.input_images import InputImage
from gateway.requests.settings import ImageSize, OutputSettings
from gateway.requests.sources import Embedding, Source, Text, TextDiff, WeightedSource
from gateway.requests.undecoded import Undecoded
from gateway.requests.validated import ValidatedRequest
from kandinsky.catalog.family import Stage


@dataclass(frozen=True)
class PriorRun:
    """A text that the prior samples an image embedding for."""

    text: Text
    negative: Text | None
    """What it steers away from; None without guidance, and for the family's rule."""
    start: Undecoded[InputImage] | Embedding | None
    """What it starts from; None for noise."""
    latents: Embedding | None
    """[D] initial noise; None for the seed's."""


@dataclass(frozen=True)
class DecoderConditioning:
    """What the decoder reads for an image; a part that its family does not read is left out."""

    sources: tuple[WeightedSource, ...] = ()
    """What the image embedding is blended from, those of no weight left out."""
    spherical: bool = False
    text_diff: TextDiff | None = None
    text: Text | None = None
    negative_source: Source | None = None
    """What the image embedding to steer away from is made from; None for the family's rule."""
    negative_text: Text | None = None
    """None for the family's rule."""
    image: Undecoded[InputImage] | None = None
    """What a decoder that attends to an image does; None for no image."""
    negative_image: Undecoded[InputImage] | None = None
    """What it steers away from; None for the family's rule."""
    mix_ratio: float | None = None
    """Share of the text there; None of other decoders."""
    given: Mapping[str, Embedding] | None = None
    """Parts that the caller computed, by field name; None where the caller computed none."""


@dataclass(frozen=True)
class ImagePlan:
    """One image of a request: one job of the decoder, and what leads to it."""

    index: int
    seed: int
    prior_runs: tuple[PriorRun, ...]
    """Of the parts of its image embedding, then of the one to steer away from."""
    conditioning: DecoderConditioning
    start: Start
    hint: Undecoded[InputImage] | None
    latents: Embedding | None
    """[C, h, w] initial noise of the decoder; None for the seed's."""
    super_resolution_latents: Embedding | None = None
    """[C, H, W] initial noise of super-resolution; None for the seed's."""


@dataclass(frozen=True)
class StageWork:
    """What a request asks of a sampling stage."""

    stage: Stage
    jobs: int
    steps: int
    """Of each job."""
    rows: int
    """Of a forward of a job: two with guidance."""
    latent_area: int
    """Of a row: height times width of the latent; 1 for an embedding."""
    kind: tuple[object, ...]
    """What makes two jobs cost the same, step for step and pass for pass."""

    further_cost: int = 0
    """Rows times latent area times steps of what comes after a job's first loop."""

    @property
    def denoise_cost(self) -> int:
        """Rows times latent area times steps, of all jobs."""
        return self.jobs * (self.rows * self.latent_area * self.steps + self.further_cost)


@dataclass(frozen=True)
class GenerationPlan:
    """Everything that a request takes; nothing is decided again after it."""

    request: ValidatedRequest
    texts: tuple[Text, ...]
    """What the text encoders read, each text once; "" last."""
    encoder_images: tuple[Undecoded[InputImage], ...]
    """What the image encoder reads, each image once."""
    images: tuple[ImagePlan, ...]
    work: Mapping[Stage, StageWork]
    """By the stages that sample, in order."""

    @property
    def output(self) -> OutputSettings:
        """How images come back."""
        return self.request.settings.output

    @property
    def skipped_texts(self) -> tuple[Text, ...]:
        """What the text encoder reads without its last layers, each text once."""
        if self.request.settings.decoder.clip_skip is None:
            return ()
        read = (image.conditioning.text for image in self.images)
        return tuple({t.text: t for t in read if t is not None and t.encoded is None}.values())

    @property
    def size(self) -> ImageSize:
        """Of the images that the decoder makes."""
        return self.request.settings.decoder.size

    @property
    def starts(self) -> tuple[Start, ...]:
        """The starts of all images, each once."""
        return tuple(dict.fromkeys(image.start for image in self.images))

    @property
    def hints(self) -> tuple[Undecoded[InputImage], ...]:
        """The hints of all images, each once."""
        hints = (image.hint for image in self.images if image.hint is not None)
        return tuple(dict.fromkeys(hints))

    @property
    def inputs(self) -> tuple[Undecoded[Any], ...]:
        """What is decoded, each once."""
        starts = (one for start in self.starts for one in start.inputs)
        return tuple(dict.fromkeys([*self.encoder_images, *starts, *self.hints]))

    @property
    def encoder_pixels(self) -> int:
        """Pixels that are held until the image encoder has answered."""
        return sum(image.pixels for image in self.encoder_images)

    @property
    def kept_pixels(self) -> int:
        """Pixels that are held until the request ends: cropped images, and a mask each start."""
        cropped = [start.cropped for start in self.starts if start.cropped is not None]
        return sum(image.pixels for image in [*dict.fromkeys(cropped), *cropped])

    @property
    def pixels(self) -> int:
        """Pixels that are held at most."""
        decoded = sum(one.pixels for one in self.inputs)
        return max(decoded, self.encoder_pixels + self.kept_pixels)

    @property
    def output_pixels(self) -> Sequence[int]:
        """Pixels of each answered image."""
        own = self.size.height * self.size.width
        return [
            own if image.start.cropped is None else image.start.cropped.pixels
            for image in self.images
        ]
