"""Image canvas: denoising starts from an image with noise added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.planning.canvases import (
    Canvas,
    MadeStart,
    Start,
    canvas_images,
    put_image,
    sized_latents,
)
from gateway.planning.guides import Guide
from gateway.requests.input_images import InputImage, check_fits
from gateway.requests.settings import ImageSize, Settings
from gateway.requests.undecoded import Undecoded
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import CanvasKind
from kandinsky.v1 import canvas_pb2


@dataclass(frozen=True)
class ImageStart(Start):
    """An image with noise added."""

    image: Undecoded[InputImage]
    strength: float

    @property
    def inputs(self) -> tuple[Undecoded[InputImage], ...]:
        """See Start."""
        return (self.image,)

    def make(self, size: ImageSize) -> MadeStart:
        """See Start."""
        latents = sized_latents(size)
        put_image(latents, "image", self.image.content, size)
        latents.set("image.strength", self.strength, "canvas.image.strength")
        return MadeStart(latents)


@dataclass(frozen=True)
class ImageCanvas(Canvas):
    """Images with noise added."""

    kind = CanvasKind.IMAGE

    @classmethod
    def validate(
        cls, message: canvas_pb2.ImageCanvas, path: str, guide: Guide, reader: ValueReader
    ) -> Self:
        """See Canvas."""
        default = reader.sampler("decoder").strength
        strength = message.strength if message.HasField("strength") else default
        return cls(canvas_images(message, path, guide, reader), strength)

    @property
    def starts(self) -> tuple[Start, ...]:
        """See Canvas."""
        return tuple(ImageStart(image, self.strength) for image in self.images)

    def size(self, guide: Guide) -> ImageSize | None:
        """See Canvas."""
        return ImageSize.of(self.images)

    def check(self, settings: Settings, reader: ValueReader) -> None:
        """See Canvas."""
        size = settings.decoder.size
        for image in self.images:
            check_fits(image, size.height, size.width, reader.violations)
