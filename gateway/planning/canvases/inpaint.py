"""Inpaint canvas: the masked part of an image is generated, the rest is kept.

With `padding_mask_crop` the decoder works on the part of the image around the mask alone, at the
size that the model likes, and the result is laid back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from gateway.planning.canvases import (
    Canvas,
    Latents,
    MadeStart,
    Start,
    canvas_images,
    put_image,
    sized_latents,
)
from gateway.planning.crops import Crop, box_of, filled, inner_size
from gateway.planning.guides import Guide
from gateway.requests.input_images import REQUEST_PIXELS, InputImage, Mask, check_fits, fitted
from gateway.requests.settings import ImageSize, Settings
from gateway.requests.settings_reading import refuse_options
from gateway.requests.sources import Embedding, value_for
from gateway.requests.undecoded import Undecoded
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import CanvasKind, Resampling
from kandinsky.v1 import canvas_pb2, settings_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid


@dataclass(frozen=True)
class InpaintStart(Start):
    """An image under a mask."""

    image: Undecoded[InputImage]
    mask: Undecoded[Mask]
    strength: float
    resampling: Resampling
    masked_image: Embedding | None = field(hash=False)
    """[C, h, w], latent of the image's kept part; None where the decoder encodes it."""

    @property
    def inputs(self) -> tuple[Undecoded[InputImage] | Undecoded[Mask], ...]:
        """See Start."""
        return (self.image, self.mask)

    def make(self, size: ImageSize) -> MadeStart:
        """See Start."""
        origin = "canvas.inpaint.strength"
        latents = masked_latents(
            self.image.content, self.mask.content, self.strength, origin, size, self.resampling
        )
        if self.masked_image is not None:
            masked = self.masked_image
            latents.set("inpaint.masked_image_latents", masked.tensor, masked.field)
        return MadeStart(latents)


@dataclass(frozen=True)
class CroppedStart(InpaintStart):
    """The part of an image around a mask."""

    padding: int
    """Pixels of the image, to whose size the mask is brought first."""

    @property
    def cropped(self) -> Undecoded[InputImage]:
        """See Start."""
        return self.image

    def make(self, size: ImageSize) -> MadeStart:
        """See Start."""
        image = self.image.content
        if image.pixels is None or image.pixels.dtype != np.uint8:
            raise ValueError("only uint8 pixels are cropped")
        mask = self.mask.content.resized(*image.pixels.shape[:2])
        if not mask.levels.any():
            raise invalid(mask.field, "is black; there is nothing to crop to")
        box = box_of(mask.levels, self.padding, size.height, size.width)
        left, top, right, bottom = box
        part = fitted(
            InputImage(image.field, image.pixels[top:bottom, left:right]),
            *inner_size(bottom - top, right - left, size.height, size.width),
            self.resampling,
        )
        shape = part.shape[:2]
        levels = mask.cropped(*box).resized(*shape).levels
        latents = masked_latents(
            InputImage(image.field, filled(part, size.height, size.width)),
            replace(mask, levels=filled(levels, size.height, size.width)),
            self.strength,
            "canvas.inpaint.strength",
            size,
        )
        return MadeStart(latents, Crop(image.pixels, mask.levels, box))


def masked_latents(
    image: InputImage,
    mask: Mask,
    strength: float,
    origin: str,
    size: ImageSize,
    resampling: Resampling = Resampling.BICUBIC,
) -> Latents:
    """The decoder's start from an image of which a part is generated.

    Args:
        image: pixels are brought to the size.
        mask: of any size; brought to that size, as the image is.
        strength: share of the steps that is run.
        origin: path of that in the request.
        size: of the decoder's image.
        resampling: of the image.
    """
    latents = sized_latents(size)
    put_image(latents, "inpaint", image, size, resampling)
    levels = mask.resized(size.height, size.width).levels
    latents.set("inpaint.mask", tensors.encode(np.ascontiguousarray(levels)), mask.field)
    latents.set("inpaint.strength", strength, origin)
    return latents


@dataclass(frozen=True)
class InpaintCanvas(Canvas):
    """Images under masks."""

    kind = CanvasKind.INPAINT

    masks: tuple[Undecoded[Mask], ...]
    padding: int | None
    """Of a crop to the mask; None for none."""
    resampling: Resampling
    masked_images: tuple[Embedding, ...]
    """[C, h, w] each, latents of the images' kept parts; none: the decoder encodes them."""

    @classmethod
    def validate(
        cls, message: canvas_pb2.InpaintCanvas, path: str, guide: Guide, reader: ValueReader
    ) -> Self:
        """See Canvas."""
        sampler = reader.sampler("decoder")
        refuse_options(message, path, sampler, reader.violations)
        default, masked = sampler.inpaint_strength, message.masked_image_latents
        return cls(
            images=canvas_images(message, path, guide, reader),
            strength=message.strength if message.HasField("strength") else default,
            masks=reader.masks(message.masks, f"{path}.masks"),
            padding=message.padding_mask_crop if message.HasField("padding_mask_crop") else None,
            resampling=reader.entry.spec.resampling,
            masked_images=reader.rows(masked, f"{path}.masked_image_latents"),
        )

    @property
    def starts(self) -> tuple[Start, ...]:
        """See Canvas."""
        chosen = (self.strength, self.resampling)
        if self.padding is not None:
            return tuple(CroppedStart(*pair, *chosen, None, self.padding) for pair in self._pairs)
        return tuple(
            InpaintStart(*pair, *chosen, value_for(self.masked_images, i))
            for i, pair in enumerate(self._pairs)
        )

    def size(self, guide: Guide) -> ImageSize | None:
        """See Canvas."""
        return ImageSize.of(self.images) if self.padding is None else None

    def check(self, settings: Settings, reader: ValueReader) -> None:
        """See Canvas."""
        size = settings.decoder.size
        if self.padding is None:
            for image in self.images:
                check_fits(image, size.height, size.width, reader.violations)
            return
        if settings.output.format == settings_pb2.OUTPUT_FORMAT_LATENTS:
            reader.violations.add("output.format", "a cropped image has no latent")
        if self.masked_images:
            reader.violations.add(self.masked_images[0].field, "a cropped image has no latent")
        crop = "canvas.inpaint.padding_mask_crop"
        if any(image.is_float or image.size is None for image in self.images):
            reader.violations.add(crop, "crops files and uint8 pixels alone")
        images = [image for image, _ in self._pairs]
        pixels = sum(image.pixels for image in [*dict.fromkeys(images), *images])
        if pixels > REQUEST_PIXELS:
            reader.violations.add(
                crop,
                f"images, and masks brought to their sizes, are {pixels} pixels; "
                f"the most is {REQUEST_PIXELS} in all",
            )

    @property
    def _pairs(self) -> list[tuple[Undecoded[InputImage], Undecoded[Mask]]]:
        """The image and the mask of each start."""
        images, masks = self.images, self.masks
        count = max(len(images), len(masks), len(self.masked_images)) if images and masks else 0
        return [(images[i % len(images)], masks[i % len(masks)]) for i in range(count)]
