"""Text diff guide: each image is an item, its embedding moved as two texts differ.

Section 3.3 of arXiv 2204.06125.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.sources import Item, TextDiff, WeightedSource
from gateway.requests.value_reader import ValueReader
from kandinsky.v1 import guide_pb2

DEFAULT_AMOUNT = 0.375
"""The middle of the range of theta in that section."""


@dataclass(frozen=True)
class TextDiffGuide(Guide):
    """Images to edit, and two texts."""

    unit = "image"
    has_images = True

    diff: TextDiff

    @classmethod
    def validate(cls, message: guide_pb2.TextDiffGuide, path: str, reader: ValueReader) -> Self:
        """See Guide."""
        at = f"{path}.images"
        count = 0 if reader.violations.at(at) else len(message.images)
        images = reader.images(message.images, at, latents=False)
        source = reader.text(message.source, f"{path}.source")
        target = reader.text(message.target, f"{path}.target")
        if source and source.text == target.text:
            reader.violations.add(target.field, "says the same as the source")
        amount = message.amount if message.HasField("amount") else DEFAULT_AMOUNT
        return cls(count, images, TextDiff(source, target, amount))

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return tuple(
            Item((WeightedSource(image),), text_diff=self.diff, text=self.diff.target)
            for image in self.images
        )
