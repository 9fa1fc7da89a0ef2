"""Interpolation guide: frames from one condition to another, an item each, of one noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.planning.guides import Guide
from gateway.planning.guides.mix import read_source
from gateway.requests.sources import Item, Source, Text, WeightedSource
from gateway.requests.value_reader import ValueReader
from kandinsky.v1 import guide_pb2


@dataclass(frozen=True)
class InterpolationGuide(Guide):
    """Frames."""

    unit = "frame"
    seed_is_shared = True

    ends: tuple[Source, ...]
    """What the first and the last frame show."""
    spherical: bool

    @classmethod
    def validate(
        cls, message: guide_pb2.InterpolationGuide, path: str, reader: ValueReader
    ) -> Self:
        """See Guide."""
        at, violations = f"{path}.frames", reader.violations
        violations.integer(at, message.frames, 2, reader.entry.limits.max_images)
        ends = (
            read_source(message.first, f"{path}.first", reader),
            read_source(message.last, f"{path}.last", reader),
        )
        return cls(
            0 if violations.at(at) else message.frames,
            (),
            tuple(source for source in ends if source is not None),
            message.interpolation == guide_pb2.INTERPOLATION_SPHERICAL,
        )

    @property
    def has_texts(self) -> bool:
        """See Guide."""
        return any(isinstance(source, Text) for source in self.ends)

    @property
    def items(self) -> tuple[Item, ...]:
        """See Guide."""
        first, last = self.ends
        shares = [index / (self.count - 1) for index in range(self.count)]
        return tuple(
            Item((WeightedSource(first, 1 - share), WeightedSource(last, share)), self.spherical)
            for share in shares
        )
