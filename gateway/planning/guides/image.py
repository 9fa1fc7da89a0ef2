"""Image guide, unCLIP variation: each image is an item, shown by its own embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.sources import Item, WeightedSource
from gateway.requests.value_reader import ValueReader
from kandinsky.v1 import guide_pb2


@dataclass(frozen=True)
class ImageGuide(Guide):
    """Images to vary."""

    unit = "image"
    has_images = True

    @classmethod
    def validate(cls, message: guide_pb2.ImageGuide, path: str, reader: ValueReader) -> Self:
        """See Guide."""
        at = f"{path}.images"
        count = 0 if reader.violations.at(at) else len(message.images)
        return cls(count, reader.images(message.images, at, latents=False))

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return tuple(Item((WeightedSource(image),)) for image in self.images)
