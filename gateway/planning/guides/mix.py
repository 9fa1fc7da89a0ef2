"""Mix guide: one item, a weighted blend of texts, images and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.sources import Embedding, Item, Source, Text, WeightedSource
from gateway.requests.value_reader import ValueReader
from kandinsky.v1 import guide_pb2


@dataclass(frozen=True)
class MixGuide(Guide):
    """A blend."""

    unit = "mix"

    sources: tuple[WeightedSource, ...]
    spherical: bool

    @classmethod
    def validate(cls, message: guide_pb2.MixGuide, path: str, reader: ValueReader) -> Self:
        """See Guide."""
        spherical = message.interpolation == guide_pb2.INTERPOLATION_SPHERICAL
        at, violations = f"{path}.sources", reader.violations
        if violations.at(at):
            return cls(1, (), (), spherical)
        sources = tuple(
            WeightedSource(source, weighted.weight)
            for i, weighted in enumerate(message.sources)
            if (source := read_source(weighted.source, f"{at}[{i}].source", reader)) is not None
        )
        weights: Sequence[float] = [weighted.weight for weighted in message.sources]
        if not any(weights) and not any(
            violations.at(f"{at}[{i}].weight") for i in range(len(weights))
        ):
            violations.add(at, "every weight is 0; give one that is not")
        if spherical and any(weight < 0 for weight in weights):
            violations.add(at, "a spherical mix takes no weight below 0")
        return cls(1, (), sources, spherical)

    @property
    def has_texts(self) -> bool:
        """See Guide."""
        return any(isinstance(weighted.source, Text) for weighted in self.sources)

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return (Item(self.sources, self.spherical),)


def read_source(
    message: guide_pb2.ConditioningSource, path: str, reader: ValueReader
) -> Source | None:
    """A conditioning source; None, and a violation, where it is none.

    Args:
        message: of guide.proto, checked by the contract's constraints.
        path: of it.
        reader: of the request.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    at = f"{path}.{kind}"
    if kind == "image":
        return reader.image(message.image, at, latents=False)
    if kind == "text":
        text: Text = reader.text(message.text, at)
        return text
    return Embedding(at, message.image_embed)
