"""Text guide: each prompt is an item, made by a run of the prior, or read by the decoder itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.sources import Item, Text, WeightedSource
from gateway.requests.value_reader import ValueReader
from kandinsky.v1 import guide_pb2


@dataclass(frozen=True)
class TextGuide(Guide):
    """Prompts."""

    unit = "prompt"
    prior_negative_is_shared = True

    prompts: tuple[Text, ...]

    @classmethod
    def validate(cls, message: guide_pb2.TextGuide, path: str, reader: ValueReader) -> Self:
        """See Guide."""
        prompts = reader.texts(message.prompts, f"{path}.prompts")
        return cls(len(prompts), (), prompts)

    @property
    def has_texts(self) -> bool:
        """See Guide."""
        return True

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return tuple(Item((WeightedSource(prompt),), text=prompt) for prompt in self.prompts)
