"""Embeddings guide: each conditioning that the caller computed is an item; nothing is encoded.

A conditioning holds what the model's decoder reads, both sides of guidance. Of a decoder that reads
text beside an image embedding, the text's part may be left out, and is encoded then. Where its
prior reads the same text, the image embedding may be, and is sampled then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.requests.settings import Settings
from gateway.requests.sources import Embedding, Item, Text, WeightedSource
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
    encoded: tuple[Text | None, ...] = ()
    """Of each item, the text that the prior samples an image embedding for; None without."""

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
        encoded = (
            _encoded_text(f"{at}[{i}]", one, reader.entry.spec) for i, one in enumerate(given)
        )
        return cls(len(given), (), at, given, tuple(encoded))

    @property
    def has_texts(self) -> bool:
        """See Guide."""
        return any(self.encoded)

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        return tuple(map(self._item, self.conditionings, self.encoded))

    def _item(self, given: Mapping[str, Embedding], text: Text | None) -> Item:
        if text is not None:
            return Item((WeightedSource(text),), text=text, negative_text=_negative(text, given))
        embed = given.get("image_embed")
        return Item((WeightedSource(embed),) if embed else (), given=given)

    def check(self, settings: Settings, reader: ValueReader) -> None:
        """See Guide."""
        spec, decoder = reader.entry.spec, settings.decoder
        if (decoder.texts or decoder.negative_texts) and any(map(_has_text, self.conditionings)):
            field = "decoder.texts" if decoder.texts else "decoder.negative_texts"
            advice = "the conditionings hold encoded texts; give one of the two"
            reader.violations.add(field, advice)
        if decoder.clip_skip is not None and any(map(_has_text, self.conditionings)):
            reader.violations.add("decoder.clip_skip", "the conditionings hold encoded texts")
        prior = settings.prior
        if prior and prior.negative_texts and any(map(_has_negative, self.conditionings)):
            advice = "the conditionings hold what the prior steers away from; give one of the two"
            reader.violations.add("prior.negative_texts", advice)
        for i, given in enumerate(self.conditionings):
            sampled = prior is not None and prior.guided and _is_sampled(spec, given)
            guided = decoder.guided or sampled
            for part in needed(spec, given):
                at = f"{self.path}[{i}]"
                if part.name not in given:
                    reader.violations.add(f"{at}.{part.name}", "is required: the decoder reads it")
                negative = f"{NEGATIVE}{part.name}"
                if guided and _needs_negative(part, given, spec) and negative not in given:
                    reader.violations.add(f"{at}.{negative}", "is required with guidance")


def needed(spec: FamilySpec, given: Mapping[str, Embedding]) -> Sequence[ConditioningField]:
    """The parts of a conditioning that its caller has to send: an image embedding where the decoder
    reads one and no prior samples it, and the text's part where it was begun or nothing else is
    read."""
    reads = [
        part
        for part in spec.reads[Stage.DECODER]
        if part.name != HINT and (part.name in given or not part.optional)
    ]
    texts = [part for part in reads if part.of_text]
    if _is_sampled(spec, given):
        return texts
    return (
        reads
        if _has_text(given) or len(texts) == len(reads)
        else [p for p in reads if not p.of_text]
    )


def _is_sampled(spec: FamilySpec, given: Mapping[str, Embedding]) -> bool:
    """Whether the prior samples the image embedding: a text is given, and nothing else."""
    return spec.samples_encoded_text and bool(given) and all(map(_is_of_text, given))


def _encoded_text(path: str, given: Mapping[str, Embedding], spec: FamilySpec) -> Text | None:
    if not _is_sampled(spec, given):
        return None
    parts = {name: part for name, part in given.items() if not name.startswith(NEGATIVE)}
    return Text(path, path, parts)


def _negative(text: Text, given: Mapping[str, Embedding]) -> Text | None:
    """What the prior and the decoder steer away from; None for the encoding of ""."""
    parts = {
        name.removeprefix(NEGATIVE): part
        for name, part in given.items()
        if name.startswith(NEGATIVE)
    }
    return Text(text.field, f"{NEGATIVE}{text.text}", parts) if parts else None


def _needs_negative(
    part: ConditioningField, given: Mapping[str, Embedding], spec: FamilySpec
) -> bool:
    """Whether guidance needs the negative side of a part: what a stage has by itself, zeros or
    learned, may be left out, and so may that of a text that the prior samples for, but neither
    zeros nor that beside other parts of that side."""
    if part.unconditional is Unconditional.ZEROS or _is_sampled(spec, given):
        return _has_negative(given)
    return part.unconditional not in (None, Unconditional.LEARNED)


def _has_negative(given: Mapping[str, Embedding]) -> bool:
    return any(name.startswith(NEGATIVE) for name in given)


def _is_of_text(name: str) -> bool:
    return name.removeprefix(NEGATIVE).startswith("text_")


def _has_text(given: Mapping[str, Embedding]) -> bool:
    return any(map(_is_of_text, given))


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
