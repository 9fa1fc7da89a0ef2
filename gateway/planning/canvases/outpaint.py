"""Outpaint canvas: an image that grows; what is past its edges is generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from gateway.planning.canvases import Canvas, MadeStart, Start, canvas_images
from gateway.planning.canvases.inpaint import masked_latents
from gateway.planning.guides import Guide
from gateway.requests.input_images import InputImage, Mask
from gateway.requests.settings import ImageSize, Settings
from gateway.requests.undecoded import Undecoded
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import CanvasKind
from kandinsky.v1 import canvas_pb2

_SIDES = (("top", "bottom"), ("left", "right"))


@dataclass(frozen=True)
class Margins:
    """Pixels to add on each side."""

    top: int
    bottom: int
    left: int
    right: int

    def around(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of an image of that height and width and its margins."""
        return size[0] + self.top + self.bottom, size[1] + self.left + self.right


@dataclass(frozen=True)
class OutpaintStart(Start):
    """An image with its edges repeated outward, under a mask that is white there."""

    image: Undecoded[InputImage]
    margins: Margins
    strength: float

    @property
    def inputs(self) -> tuple[Undecoded[InputImage], ...]:
        """See Start."""
        return (self.image,)

    def make(self, size: ImageSize) -> MadeStart:
        """See Start."""
        rows = (self.margins.top, self.margins.bottom)
        columns = (self.margins.left, self.margins.right)
        image = self.image.content
        if image.pixels is None:
            raise ValueError("a latent has no edges to continue")
        # The encoder looks over a cell's edge: a repeated one disturbs the image's own cells least.
        grown = np.pad(image.pixels, (rows, columns, (0, 0)), mode="edge")
        kept = np.zeros(image.pixels.shape[:2], np.uint8)
        mask = Mask(image.field, np.pad(kept, (rows, columns), constant_values=255))
        latents = masked_latents(
            InputImage(image.field, grown), mask, self.strength, "canvas.outpaint.strength", size
        )
        return MadeStart(latents)


@dataclass(frozen=True)
class OutpaintCanvas(Canvas):
    """Images that grow."""

    kind = CanvasKind.OUTPAINT

    margins: Margins
    grown: ImageSize | None
    """The first image's size and the margins; None where they make none that the model draws."""

    @classmethod
    def validate(
        cls, message: canvas_pb2.OutpaintCanvas, path: str, guide: Guide, reader: ValueReader
    ) -> Self:
        """See Canvas."""
        images = canvas_images(message, path, guide, reader, latents=False)
        margins = Margins(message.top, message.bottom, message.left, message.right)
        default = reader.sampler("decoder").inpaint_strength
        return cls(
            images=images,
            strength=message.strength if message.HasField("strength") else default,
            margins=margins,
            grown=_grown(images, margins, path, reader),
        )

    @property
    def starts(self) -> tuple[Start, ...]:
        """See Canvas."""
        return tuple(OutpaintStart(image, self.margins, self.strength) for image in self.images)

    def size(self, guide: Guide) -> ImageSize | None:
        """See Canvas."""
        return self.grown

    def check(self, settings: Settings, reader: ValueReader) -> None:
        """See Canvas."""
        for name in ("height", "width") if self.grown is not None else ():
            pixels = getattr(self.grown, name)
            if getattr(settings.decoder.size, name) != pixels:
                reader.violations.add(
                    f"decoder.{name}", f"image and margins are {pixels}; leave it out"
                )


def _grown(
    images: tuple[Undecoded[InputImage], ...], margins: Margins, path: str, reader: ValueReader
) -> ImageSize | None:
    """The size of image and margins; None, and a violation, where they make none."""
    violations, most = reader.violations, reader.entry.size.max
    pixels = {name: getattr(margins, name) for pair in _SIDES for name in pair}
    for name, margin in pixels.items():
        violations.integer(f"{path}.{name}", margin, 0, most)
    if not any(pixels.values()):
        violations.add(f"{path}.top", "no margin is above 0; give at least one")
        return None
    for image in images[1:]:
        if image.size != images[0].size:
            rule = "is of another size than the first; the margins must fit all"
            violations.add(image.field, rule)
    first = ImageSize.of(images)
    if first is None or any(violations.at(f"{path}.{name}") for name in pixels):
        return None
    height, width = margins.around((first.height, first.width))
    # The last margin of a side that was given is at fault.
    at = [f"{path}.{end if pixels[end] else start}" for start, end in _SIDES]
    fits = [_fits(side, field, reader) for side, field in zip((height, width), at, strict=True)]
    return ImageSize(height, width, first.field) if all(fits) else None


def _fits(pixels: int, margin: str, reader: ValueReader) -> bool:
    """Whether a side of the canvas fits; if not, its margin is at fault."""
    multiple, size = reader.entry.spec.size_multiple, reader.entry.size
    more = -pixels % multiple
    if more:
        reader.violations.add(
            margin,
            f"the canvas is {pixels} pixels, no multiple of {multiple}; "
            f"add {more} more, or {multiple - more} fewer",
        )
    elif not size.min <= pixels <= size.max:
        sides = f"sides go from {size.min} to {size.max}"
        reader.violations.add(margin, f"the canvas is {pixels} pixels; {sides}")
    return not more and size.min <= pixels <= size.max
