"""Blending image embeddings, and moving one along the difference of two texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid

Vector = np.ndarray[Any, np.dtype[np.float64]]

ALIGNED = 1e-9
"""Length of a unit vector's part across another below which it is rounding, and no direction."""


def blend(
    embeds: Sequence[tensor_pb2.Tensor],
    weights: Sequence[float],
    fields: Sequence[str],
    *,
    spherical: bool,
) -> tensor_pb2.Tensor:
    """Weighted embeddings as one, [D], of the first one's dtype.

    The sum is `KandinskyPriorPipeline.interpolate`'s; weights need not add up to 1. Spherically,
    each further embedding is approached by its share of the weight so far.

    Args:
        embeds: [D] each.
        weights: finite; spherically >= 0, one of them above 0.
        fields: paths in the request, for errors.
        spherical: along great circles rather than summed.

    Raises:
        KandinskyError: INVALID_FIELD if an embedding has another width than the first.
    """
    if len(embeds) == 1 and weights[0] == 1:
        return embeds[0]
    width = embeds[0].shape[0]
    for embed, field in zip(embeds, fields, strict=True):
        if embed.shape[0] != width:
            widths = f"is {embed.shape[0]} wide, {fields[0]} {width}"
            raise invalid(f"{field}.shape", f"{widths}; embeddings of a model are of one width")
    vectors = [
        tensors.decode(embed, field, dtypes=tensors.FLOATS, shape=[width]).astype(np.float64)
        for embed, field in zip(embeds, fields, strict=True)
    ]
    if not spherical:
        return _like(embeds[0], np.sum([w * v for w, v in zip(weights, vectors, strict=True)], 0))
    pairs = [(w, v) for w, v in zip(weights, vectors, strict=True) if w > 0]
    total, mixed = pairs[0]
    for weight, vector in pairs[1:]:
        total += weight
        share = weight / total
        length = (1 - share) * np.linalg.norm(mixed) + share * np.linalg.norm(vector)
        mixed = length * slerp(_unit(mixed), _unit(vector), share)
    return _like(embeds[0], mixed)


def text_diff(
    image: tensor_pb2.Tensor,
    source: tensor_pb2.Tensor,
    target: tensor_pb2.Tensor,
    amount: float,
    field: str,
) -> tensor_pb2.Tensor:
    """slerp(z_i, norm(z_t - z_t0), theta) at z_i's own length: arXiv 2204.06125, section 3.3.

    Args:
        image: z_i, [D].
        source: z_t0, [D] embedding of the text for what the image shows.
        target: z_t, [D] embedding of the text for what the result shows.
        amount: theta, 0 to 1.
        field: the target's path, for errors.

    Raises:
        KandinskyError: INVALID_FIELD if the two texts have the same embedding.
    """
    z_i, z_t0, z_t = (
        tensors.decode(tensor, field).astype(np.float64) for tensor in (image, source, target)
    )
    difference = z_t - z_t0
    if not difference.any():
        raise invalid(field, "says the same as the source")
    return _like(image, np.linalg.norm(z_i) * slerp(_unit(z_i), _unit(difference), amount))


def slerp(a: Vector, b: Vector, t: float) -> Vector:
    """The unit vector at share t of the way from unit vector a to b: Shoemake 1985, section 3.3.

    Written as a rotation of a toward b's part across a, which stays exact where the angle is near 0
    or 180 degrees. Between opposite vectors every great circle is as short: the way leads over the
    basis axis least aligned with a (the first of them), whatever else the vectors are.
    """
    across = b - (a @ b) * a
    angle = np.arctan2(np.linalg.norm(across), a @ b)
    if np.linalg.norm(across) < ALIGNED:
        if a @ b >= 0:  # one direction
            return _unit((1 - t) * a + t * b)
        axis = np.zeros_like(a)
        axis[np.argmin(abs(a))] = 1
        across = axis - (axis @ a) * a
    return _unit(np.cos(t * angle) * a + np.sin(t * angle) * _unit(across))


def _unit(vector: Vector) -> Vector:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length) if length else vector


def _like(tensor: tensor_pb2.Tensor, vector: Vector) -> tensor_pb2.Tensor:
    dtype = tensors.decode(tensor, "embed").dtype
    return tensors.encode(vector.astype(dtype))
