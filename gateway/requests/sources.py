"""What images are made of, as a request gave it: texts, embeddings, images, each with its path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.requests.input_images import InputImage
from gateway.requests.undecoded import Undecoded
from kandinsky.v1 import tensor_pb2

T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """A text; one of white space alone is held as ""."""

    field: str
    """Its path in the request; for a "" that no one sent, where one would stand."""
    text: str
    """Of an encoded one, its path again: what tells it from others."""
    encoded: Mapping[str, Embedding] | None = dataclasses.field(default=None, compare=False)
    """What the encoders would make of it, where the caller has made it, by field name."""

    def __bool__(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True)
class Embedding:
    """A floating-point tensor, or a row of one."""

    field: str
    """Path in the request of the tensor."""
    tensor: tensor_pb2.Tensor


Source = Text | Undecoded[InputImage] | Embedding
"""What an image embedding is made from: by the prior, by the image encoder, or as it is."""


@dataclass(frozen=True)
class WeightedSource:
    """A part of a blend of image embeddings."""

    source: Source
    weight: float = 1.0


@dataclass(frozen=True)
class TextDiff:
    """Moves an image embedding along the difference of two texts' embeddings."""

    source: Text
    target: Text
    amount: float
    """Share of the angle to the difference, 0 to 1."""


@dataclass(frozen=True)
class Item:
    """What one item of a guide shows."""

    sources: tuple[WeightedSource, ...] = ()
    """What its image embedding is blended from."""
    spherical: bool = False
    """Whether they are blended along great circles rather than summed."""
    text_diff: TextDiff | None = None
    """What the blend is moved along."""
    text: Text | None = None
    """What a decoder that reads text reads where the request names nothing else."""
    negative_text: Text | None = None
    """What prior and decoder steer away from where the request names nothing else."""
    image: Undecoded[InputImage] | None = None
    """What a decoder that attends to an image does beside the text; None for its one source."""
    mix_ratio: float | None = None
    """Share of the text there; None where text or image is alone."""
    given: Mapping[str, Embedding] = dataclasses.field(default_factory=dict)
    """Parts of the decoder's Conditioning that the caller computed, by field name."""


def value_for(values: Sequence[T], index: int) -> T | None:
    """The value for an item or an image, of one for all or one for each; None of none."""
    return values[index % len(values)] if values else None
