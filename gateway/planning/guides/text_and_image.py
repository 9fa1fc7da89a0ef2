"""Dual guidance: each prompt beside an image is an item, for decoders that attend to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.sources import Item, Text
from gateway.requests.value_reader import ValueReader
from kandinsky.v1 import guide_pb2

HALF = 0.5
"""The share of the text where a request names none."""


@dataclass(frozen=True)
class TextAndImageGuide(Guide):
    """Prompts, each with an image."""

    unit = "prompt"
    has_images = True

    prompts: tuple[Text, ...]
    mix_ratio: float

    @classmethod
    def validate(cls, message: guide_pb2.TextAndImageGuide, path: str, reader: ValueReader) -> Self:
        """See Guide."""
        prompts = reader.texts(message.prompts, f"{path}.prompts")
        is_named = message.HasField("text_to_image_strength")
        return cls(
            len(prompts),
            reader.images(message.images, f"{path}.images", latents=False),
            prompts,
            message.text_to_image_strength if is_named else HALF,
        )

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return tuple(
            Item(text=prompt, image=self.images[i % len(self.images)], mix_ratio=self.mix_ratio)
            for i, prompt in enumerate(self.prompts)
        )
