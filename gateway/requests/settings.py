"""The settings groups of a request, within the model's bounds and with its defaults applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.requests.input_images import InputImage
from gateway.requests.sources import Embedding, Text
from gateway.requests.undecoded import Undecoded
from kandinsky.v1 import sampling_pb2, settings_pb2


@dataclass(frozen=True)
class ImageSize:
    """Height and width, pixels."""

    height: int
    width: int
    field: str
    """Path of the image that has it; "" for a size that is named, or the model's."""

    @classmethod
    def of(cls, images: Sequence[Undecoded[InputImage]]) -> ImageSize | None:
        """The first image's; None for no image, and for a latent."""
        if not images or images[0].size is None:
            return None
        return cls(*images[0].size, images[0].field)


@dataclass(frozen=True)
class PriorStart:
    """What the prior starts from in place of noise, one for all items or one for each."""

    sources: tuple[Undecoded[InputImage] | Embedding, ...]
    strength: float
    """Share of the steps that is run."""


@dataclass(frozen=True)
class PriorSettings:
    """How the prior samples."""

    steps: int
    guidance_scale: float
    latents: tuple[Embedding, ...]
    """[D] each, one for all images or one for each; none: from the seed."""
    negative_texts: tuple[Text, ...]
    """One for all items or one for each; none: as the guide says."""
    start: PriorStart | None
    guidance_interval: sampling_pb2.GuidanceInterval | None
    """None for everywhere."""

    @property
    def guided(self) -> bool:
        """Whether it runs with classifier-free guidance."""
        return self.guidance_scale > 1


@dataclass(frozen=True)
class DecoderSettings:
    """How the decoder samples."""

    texts: tuple[Text, ...]
    """One for all items or one for each; none: as the guide says."""
    negative_texts: tuple[Text, ...]
    """The same; none: as the request's negative says."""
    size: ImageSize
    steps: int
    guidance_scale: float
    scheduler: str | None
    """None for the checkpoint's own."""
    eta: float | None
    latents: tuple[Embedding, ...]
    """[C, h, w] each, one for all images or one for each; none: from the seed."""
    guidance_interval: sampling_pb2.GuidanceInterval | None
    """None for everywhere."""
    step_cache_interval: int
    """1 where every step is whole."""
    timesteps: tuple[int, ...]
    """Of each step; none: as the scheduler has them."""
    sigmas: tuple[float, ...]
    """The same."""
    clip_skip: int | None
    """Layers that the text encoder leaves out for what the decoder reads; None for none."""
    free_u: sampling_pb2.FreeU | None
    """None for the UNet as it was trained."""

    @property
    def guided(self) -> bool:
        """Whether it runs with classifier-free guidance."""
        return self.guidance_scale > 1


@dataclass(frozen=True)
class SuperResolutionSettings:
    """How a small image is made larger."""

    steps: int
    latents: tuple[Embedding, ...]
    """[C, H, W] each, one for all images or one for each; none: from the seed."""


@dataclass(frozen=True)
class OutputSettings:
    """How an image comes back."""

    format: settings_pb2.OutputFormat
    """Never UNSPECIFIED."""
    quality: int | None
    """None for the format's own default."""


@dataclass(frozen=True)
class EventSettings:
    """Which events come on the way."""

    progress_every: int | None = None
    preview_every: int | None = None
    preview_mode: sampling_pb2.PreviewMode = sampling_pb2.PREVIEW_MODE_UNSPECIFIED
    are_read: bool = True
    """Whether anyone sees them."""


@dataclass(frozen=True)
class Settings:
    """Every settings group."""

    prior: PriorSettings | None
    """None where no prior runs for the request."""
    decoder: DecoderSettings
    super_resolution: SuperResolutionSettings | None
    """None of a model that makes no small images."""
    output: OutputSettings
    events: EventSettings
