"""Guides: what the images of a request show. One builder a kind.

Each raises `KandinskyError` (INVALID_FIELD) for a value that cannot be sent, and OSError for a file
that cannot be read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kandinsky.client.fields import put
from kandinsky.client.images import input_image, tensor
from kandinsky.client.options import (
    Conditioning,
    ConditioningSource,
    Embedding,
    InputImages,
    Interpolation,
    Texts,
)
from kandinsky.v1 import conditioning_pb2, guide_pb2
from kandinsky.wire.errors import invalid
from kandinsky.wire.tensors import Array

Guide = guide_pb2.Guide


def text(prompts: Texts) -> Guide:
    """Prompts, an item each.

    Args:
        prompts: one or several, none empty.
    """
    return _guide("text", prompts=prompts)


def mix(
    sources: Sequence[ConditioningSource],
    weights: Sequence[float],
    *,
    interpolation: Interpolation | None = None,
) -> Guide:
    """A weighted blend of texts, images and embeddings; one item.

    Args:
        sources: what to blend.
        weights: one for each source.
        interpolation: `linear`, the default, or `spherical`.
    """
    if len(sources) != len(weights):
        each = f"pass one for each source, {len(sources)} in all"
        raise invalid("weights", f"there are {len(weights)}; {each}")
    guide = _guide("mix", interpolation=interpolation)
    for i, (source, weight) in enumerate(zip(sources, weights, strict=True)):
        path = f"guide.mix.sources[{i}]"
        weighted = guide.mix.sources.add()
        _put_source(weighted.source, source, f"{path}.source")
        put(weighted, {"weight": weight}, path)
    return guide


def interpolation(
    first: ConditioningSource,
    last: ConditioningSource,
    frames: int,
    *,
    interpolation: Interpolation | None = None,
) -> Guide:
    """Frames from one conditioning source to another, an item each.

    Args:
        first: what the first frame shows.
        last: what the last frame shows.
        frames: how many, first and last included.
        interpolation: `linear`, the default, or `spherical`.
    """
    guide = _guide("interpolation", frames=frames, interpolation=interpolation)
    _put_source(guide.interpolation.first, first, "guide.interpolation.first")
    _put_source(guide.interpolation.last, last, "guide.interpolation.last")
    return guide


def image(images: InputImages) -> Guide:
    """Images like an image: unCLIP variation; an item each.

    Args:
        images: one or several, as files or pixels.
    """
    return _guide("image", images=images)


def text_diff(
    images: InputImages, source: str, target: str, *, amount: float | None = None
) -> Guide:
    """Images whose embedding is rotated toward the difference of two texts; an item each.

    Args:
        images: one or several, as files or pixels.
        source: what the images show.
        target: what the results show.
        amount: how far, 0 to 1 of a right angle; default 0.375.
    """
    return _guide("text_diff", images=images, source=source, target=target, amount=amount)


def text_and_image(
    prompts: Texts, images: InputImages, *, text_to_image_strength: float | None = None
) -> Guide:
    """Prompts and images at once: dual guidance; an item a prompt.

    Args:
        prompts: one or several, none empty.
        images: one for all prompts, or one for each.
        text_to_image_strength: share of the text, 0 to 1; default 0.5.
    """
    return _guide(
        "text_and_image",
        prompts=prompts,
        images=images,
        text_to_image_strength=text_to_image_strength,
    )


def embeddings(conditionings: Sequence[Conditioning]) -> Guide:
    """Embeddings that the caller has computed, an item each.

    Args:
        conditionings: each with its negative side, where guidance is on.
    """
    guide = _guide("embeddings")
    for i, each in enumerate(conditionings):
        known = conditioning_pb2.Conditioning.DESCRIPTOR.fields_by_name
        if unknown := each.keys() - known.keys():
            raise TypeError(f"a conditioning has no field {', '.join(sorted(unknown))}")
        conditioning = guide.embeddings.conditionings.add()
        put(conditioning, each, f"guide.embeddings.conditionings[{i}]")
    return guide


def image_embeds(embeds: Any, negatives: Any = None) -> Guide:
    """The guide `embeddings` of image embeddings alone.

    Args:
        embeds: array [items, D].
        negatives: array [1 or items, D] to steer away from; None where guidance is off.
    """
    rows = _rows(embeds, "image_embeds")
    if negatives is None:
        return embeddings([Conditioning(image_embed=row) for row in rows])
    others = _rows(negatives, "negative_image_embeds")
    if len(others) not in (1, len(rows)):
        why = f"holds {len(others)} rows; pass 1, or one for each of the {len(rows)} image_embeds"
        raise invalid("negative_image_embeds", why)
    return embeddings(
        [
            Conditioning(image_embed=row, negative_image_embed=others[i % len(others)])
            for i, row in enumerate(rows)
        ]
    )


def _rows(value: Any, name: str) -> Array:
    array = np.asarray(value)
    if array.ndim != 2:
        raise invalid(name, f"has the shape {list(array.shape)}; pass [items, D]")
    return array


def _guide(kind: str, **fields: Any) -> Guide:
    guide = Guide()
    message = getattr(guide, kind)
    message.SetInParent()
    put(message, fields, f"guide.{kind}")
    return guide


def _put_source(
    message: guide_pb2.ConditioningSource, source: ConditioningSource, path: str
) -> None:
    if isinstance(source, str):
        put(message, {"text": source}, path)
    elif isinstance(source, Embedding):
        message.image_embed.CopyFrom(tensor(source.array, f"{path}.image_embed"))
    else:
        message.image.CopyFrom(input_image(source, f"{path}.image"))
