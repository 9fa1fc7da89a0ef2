"""Embeddings guide: each conditioning that the caller computed is an item; nothing is encoded.

A conditioning holds what the model's decoder reads, both sides of guidance. Of a decoder that reads
text beside an image embedding, the text's part may be left out, and is encoded then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.settings import Settings
from gateway.requests.sources import Embedding, Item, WeightedSource
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import ConditioningField, FamilySpec, Stage, Unconditional
from kandinsky.v1 import conditioning_pb2, guide_pb2

NEGATIVE = "negative_"
HINT = "hint"


@dataclass(frozen=True)
class EmbeddingsGuide(Guide):
    """Conditionings."""

    unit = "conditioning"
    holds_negatives = True

    path: str
    conditionings: tuple[Mapping[str, Embedding], ...]
    """Of each item, by field name."""

    @classmethod
    def validate(cls, message: guide_pb2.EmbeddingsGuide, path: str, reader: ValueReader) -> Self:
        """See Guide."""
        at = f"{path}.conditionings"
        if reader.violations.at(at):
            return cls(0, (), at, ())
        given = tuple(
            _read(conditioning, f"{at}[{i}]", reader)
            for i, conditioning in enumerate(message.conditionings)
        )
        return cls(len(given), (), at, given)

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return tuple(
            Item(
                (WeightedSource(given["image_embed"]),) if "image_embed" in given else (),
                given=given,
            )
            for given in self.conditionings
        )

    def check(self, settings: Settings, reader: ValueReader) -> None:
        """See Guide."""
        spec, decoder = reader.entry.spec, settings.decoder
        if (decoder.texts or decoder.negative_texts) and any(map(_has_text, self.conditionings)):
            field = "decoder.texts" if decoder.texts else "decoder.negative_texts"
            advice = "the conditionings hold encoded texts; give one of the two"
            reader.violations.add(field, advice)
        for i, given in enumerate(self.conditionings):
            for part in needed(spec, given):
                at = f"{self.path}[{i}]"
                if part.name not in given:
                    reader.violations.add(f"{at}.{part.name}", "is required: the decoder reads it")
                negative = f"{NEGATIVE}{part.name}"
                if decoder.guided and _needs_negative(part, given) and negative not in given:
                    reader.violations.add(f"{at}.{negative}", "is required with guidance")


def needed(spec: FamilySpec, given: Mapping[str, Embedding]) -> Sequence[ConditioningField]:
    """The parts of a conditioning that its caller has to send: an image embedding where the decoder
    reads one, and the text's part where it was begun or nothing else is read."""
    reads = [
        part
        for part in spec.reads[Stage.DECODER]
        if part.name != HINT and (part.name in given or not part.optional)
    ]
    texts = [part for part in reads if part.of_text]
    return (
        reads
        if _has_text(given) or len(texts) == len(reads)
        else [p for p in reads if not p.of_text]
    )


def _needs_negative(part: ConditioningField, given: Mapping[str, Embedding]) -> bool:
    """Whether guidance needs the negative side of a part: what the stage has by itself, zeros or
    learned, may be left out, but zeros not beside other parts of that side."""
    if part.unconditional is Unconditional.ZEROS:
        return any(name.startswith(NEGATIVE) for name in given)
    return part.unconditional not in (None, Unconditional.LEARNED)


def _has_text(given: Mapping[str, Embedding]) -> bool:
    return any(name.removeprefix(NEGATIVE).startswith("text_") for name in given)


def _read(
    conditioning: conditioning_pb2.Conditioning, path: str, reader: ValueReader
) -> Mapping[str, Embedding]:
    reads = {part.name for part in reader.entry.spec.reads[Stage.DECODER]} - {HINT}
    given: dict[str, Embedding] = {}
    for descriptor, tensor in conditioning.ListFields():
        at = f"{path}.{descriptor.name}"
        if descriptor.name == HINT:
            reader.violations.add(at, "does not belong here; send control.hints")
        elif descriptor.name.removeprefix(NEGATIVE) not in reads:
            reader.violations.add(at, "is not read by this model's decoder")
        else:
            given[descriptor.name] = Embedding(at, tensor)
    return given
