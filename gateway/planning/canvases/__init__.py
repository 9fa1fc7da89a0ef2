"""Where denoising starts: one file a canvas, which validates it and makes the decoder's start."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from gateway.planning.crops import Crop
from gateway.planning.guides import Guide
from gateway.planning.stage_request import StageRequest
from gateway.requests.input_images import InputImage, fitted
from gateway.requests.settings import ImageSize, Settings
from gateway.requests.undecoded import Undecoded
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import CanvasKind, Resampling
from kandinsky.v1 import sampling_pb2
from kandinsky.wire import tensors

CANVASES: Mapping[CanvasKind, str] = {
    CanvasKind.NOISE: "gateway.planning.canvases.noise:NoiseCanvas",
    CanvasKind.IMAGE: "gateway.planning.canvases.image:ImageCanvas",
    CanvasKind.INPAINT: "gateway.planning.canvases.inpaint:InpaintCanvas",
    CanvasKind.OUTPAINT: "gateway.planning.canvases.outpaint:OutpaintCanvas",
}
Latents = StageRequest[sampling_pb2.InitialLatents]


@dataclass(frozen=True)
class MadeStart:
    """A start whose images were decoded."""

    latents: Latents
    crop: Crop | None = None
    """The part of a larger image that the decoder works on."""


class Start(ABC):
    """Where the denoising of an image starts: frozen, its images still to be decoded."""

    @property
    def inputs(self) -> tuple[Undecoded[Any], ...]:
        """The images and masks that have to be decoded before it is made."""
        return ()

    @property
    def cropped(self) -> Undecoded[InputImage] | None:
        """The image that it keeps until the result is laid back into it, and of whose size its mask
        is."""
        return None

    @abstractmethod
    def make(self, size: ImageSize) -> MadeStart:
        """Make it, once `inputs` are decoded.

        Args:
            size: of the image that the decoder makes.

        Raises:
            KandinskyError: INVALID_FIELD where the content of an input does not do.
        """


@dataclass(frozen=True)
class Canvas(ABC):
    """A validated canvas, every default applied."""

    kind: ClassVar[CanvasKind]
    has_images: ClassVar[bool] = True
    """Whether it starts from images, those that could not be read included."""

    images: tuple[Undecoded[InputImage], ...]
    """What it starts from, one for all items or one for each; a start of the prior that has no
    images takes them too."""
    strength: float
    """Share of the steps that is run."""

    @classmethod
    @abstractmethod
    def validate(cls, message: Any, path: str, guide: Guide, reader: ValueReader) -> Self:
        """Read the canvas's message; record what is wrong with it.

        Args:
            message: of canvas.proto, checked by the contract's constraints.
            path: of it.
            guide: whose images stand in for those that the canvas lacks.
            reader: of the request.
        """

    @property
    @abstractmethod
    def starts(self) -> tuple[Start, ...]:
        """One for all items of the guide, or one for each; of a canvas without violations alone."""

    @abstractmethod
    def size(self, guide: Guide) -> ImageSize | None:
        """The size of the decoder's image where the request names none; None if none follows from
        the canvas."""

    def check(self, settings: Settings, reader: ValueReader) -> None:  # noqa: B027, an option
        """Record what is wrong with the canvas beside the settings."""


def canvas_images(
    message: Any, path: str, guide: Guide, reader: ValueReader, *, latents: bool = True
) -> tuple[Undecoded[InputImage], ...]:
    """The images of a canvas: its own, else the guide's.

    Args:
        message: the canvas's, with a field `images`.
        path: of it.
        guide: of the request.
        reader: of the request.
        latents: whether a latent may stand for an image.
    """
    at = f"{path}.images"
    if message.images:
        return reader.images(message.images, at, latents=latents)
    if not guide.has_images:
        reader.violations.add(at, "is empty, and the guide has no images; send at least one")
    return guide.images


def sized_latents(size: ImageSize) -> Latents:
    """The decoder's start, still without what it starts from."""
    latents = StageRequest(sampling_pb2.InitialLatents())
    latents.set("height", size.height, size.field or "decoder.height")
    latents.set("width", size.width, size.field or "decoder.width")
    return latents


def put_image(
    latents: Latents,
    kind: str,
    image: InputImage,
    size: ImageSize,
    resampling: Resampling = Resampling.BICUBIC,
) -> None:
    """Set the image of a start, at the size of the decoder's image, or its latent.

    Args:
        latents: the start.
        kind: its field that has the image: `image` or `inpaint`.
        image: uint8 pixels are resized.
        size: of the decoder's image.
        resampling: as the family's pipelines have it.
    """
    if image.latents is not None:
        latents.set(f"{kind}.latents", image.latents, f"{image.field}.latents")
    else:
        pixels = tensors.encode(fitted(image, size.height, size.width, resampling))
        latents.set(f"{kind}.pixels", pixels, f"{image.field}.pixels")


def canvas_class(kind: CanvasKind) -> type[Canvas]:
    """The class of a kind of canvas."""
    module, _, name = CANVASES[kind].partition(":")
    found: type[Canvas] = getattr(importlib.import_module(module), name)
    return found
