"""What images show: one file a guide, which validates it and says what its items are made of.

What guides have in common is in `Guide`; what they mean for a family follows from its declaration
(gateway/planning/plan.py).
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from gateway.requests.input_images import InputImage
from gateway.requests.settings import Settings
from gateway.requests.sources import Item
from gateway.requests.undecoded import Undecoded
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import GuideKind

GUIDES: Mapping[GuideKind, str] = {
    GuideKind.TEXT: "gateway.planning.guides.text:TextGuide",
    GuideKind.MIX: "gateway.planning.guides.mix:MixGuide",
    GuideKind.INTERPOLATION: "gateway.planning.guides.interpolation:InterpolationGuide",
    GuideKind.IMAGE: "gateway.planning.guides.image:ImageGuide",
    GuideKind.TEXT_DIFF: "gateway.planning.guides.text_diff:TextDiffGuide",
    GuideKind.TEXT_AND_IMAGE: "gateway.planning.guides.text_and_image:TextAndImageGuide",
    GuideKind.EMBEDDINGS: "gateway.planning.guides.embeddings:EmbeddingsGuide",
}


@dataclass(frozen=True)
class Guide(ABC):
    """A validated guide, every default applied."""

    unit: ClassVar[str]
    """The name of one of its items."""
    prior_negative_is_shared: ClassVar[bool] = False
    """Whether its prior runs steer away from `negative.texts` where `prior.negative_texts` is left
    out, as those of prompts; those of other guides steer away from ""."""
    seed_is_shared: ClassVar[bool] = False
    """Whether all items draw their noise from the seed itself, one image an item."""
    has_images: ClassVar[bool] = False
    """Whether its images stand in for those that a canvas lacks."""
    holds_negatives: ClassVar[bool] = False
    """Whether its items hold what the decoder steers away from."""

    count: int
    """How many items it has; 0 where they could not be read."""
    images: tuple[Undecoded[InputImage], ...]
    """Those that stand in for a canvas's, one each item; none where there are none such."""

    @classmethod
    @abstractmethod
    def validate(cls, message: Any, path: str, reader: ValueReader) -> Self:
        """Read the guide's message; record what is wrong with it.

        Args:
            message: of guide.proto, checked by the contract's constraints.
            path: of it.
            reader: of the request.
        """

    @property
    @abstractmethod
    def items(self) -> tuple[Item, ...]:
        """Its items, in order; of a guide without violations alone."""

    @property
    def has_texts(self) -> bool:
        """Whether image embeddings are made from texts, by the prior of a family that has one."""
        return False

    def check(self, settings: Settings, reader: ValueReader) -> None:  # noqa: B027, an option
        """Record what is wrong with the guide beside the settings."""


def guide_class(kind: GuideKind) -> type[Guide]:
    """The class of a kind of guide."""
    module, _, name = GUIDES[kind].partition(":")
    found: type[Guide] = getattr(importlib.import_module(module), name)
    return found
