"""Tensors to and from the wire. The only file that knows how a Tensor's bytes are laid out."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from kandinsky.v1 import tensor_pb2
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import invalid

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]

MAX_RANK = 8
"""Most axes a tensor may have; no embedding, latent or image needs more than five."""

_NUMPY: Mapping[tensor_pb2.DType, np.dtype[Any]] = {
    tensor_pb2.D_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.D_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.D_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.D_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    tensor_pb2.D_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.D_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.D_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.D_TYPE_BOOL: np.dtype("?"),
}
_WIRE = {dtype: number for number, dtype in _NUMPY.items()}

FLOATS = frozenset(
    _NUMPY[number]
    for number in (
        tensor_pb2.D_TYPE_FLOAT64,
        tensor_pb2.D_TYPE_FLOAT32,
        tensor_pb2.D_TYPE_FLOAT16,
        tensor_pb2.D_TYPE_BFLOAT16,
    )
)
"""The floating-point dtypes of the wire, for `decode(dtypes=FLOATS)`."""
UINT8 = frozenset({np.dtype("u1")})
"""For `decode(dtypes=UINT8)`."""
INT64 = frozenset({np.dtype("<i8")})
"""For `decode(dtypes=INT64)`."""
BOOL = frozenset({np.dtype("?")})
"""For `decode(dtypes=BOOL)`."""

if sys.byteorder != "little":
    raise ImportError("kandinsky.wire.tensors reads tensors in place, which needs little-endian")


def encode(array: Array) -> tensor_pb2.Tensor:
    """An array of any wire dtype as a Tensor; one copy, made row-major on the way.

    Raises:
        TypeError: the array's dtype has no place on the wire.
    """
    dtype = array.dtype.newbyteorder("<") if array.dtype.kind in "fiu" else array.dtype
    if dtype not in _WIRE:
        raise TypeError(f"no wire dtype for {array.dtype}")
    data = array.astype(dtype, copy=False).tobytes()
    return tensor_pb2.Tensor(dtype=_WIRE[dtype], shape=array.shape, data=data)


def decode(
    tensor: tensor_pb2.Tensor,
    field: str,
    *,
    dtypes: Collection[np.dtype[Any]] | None = None,
    shape: Sequence[int | None] | None = None,
) -> Array:
    """A read-only view on a Tensor's bytes as an array.

    The bytes are copied once, by protobuf when the field is read, and never again.

    Args:
        tensor: as received.
        field: its path in the request, for errors.
        dtypes: dtypes that may come; any if None.
        shape: extents that must hold, None for any extent; any shape if None.

    Raises:
        KandinskyError: INVALID_FIELD if dtype, shape or bytes are not what they must be, or if
            a floating-point value is not finite.
    """
    dtype, extents = layout(tensor, field, dtypes=dtypes, shape=shape)
    expected = math.prod(extents) * dtype.itemsize
    data = tensor.data  # protobuf makes a new copy at every read of the field
    if len(data) != expected:
        raise invalid(
            f"{field}.data",
            f"holds {len(data)} bytes, but shape {list(extents)} of {dtype.name} takes {expected}",
        )
    if dtype.kind == "b" and data.strip(b"\x00\x01"):
        raise invalid(f"{field}.data", "a bool is a byte 0 or 1")
    array = np.frombuffer(data, dtype=dtype).reshape(extents)
    if dtype in FLOATS and not np.isfinite(array).all():
        raise invalid(f"{field}.data", "holds a value that is not finite")
    return array


def layout(
    tensor: tensor_pb2.Tensor,
    field: str,
    *,
    dtypes: Collection[np.dtype[Any]] | None = None,
    shape: Sequence[int | None] | None = None,
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype and shape that a Tensor says it has; its bytes are not looked at.

    Arguments and errors as of `decode`.
    """
    dtype = _NUMPY.get(tensor.dtype)
    if dtype is None:
        raise invalid(f"{field}.dtype", f"unknown dtype {tensor.dtype}")
    if dtypes is not None and dtype not in dtypes:
        names = ", ".join(sorted(allowed.name for allowed in dtypes))
        raise invalid(f"{field}.dtype", f"{dtype.name} does not fit here; use {names}")
    extents = _checked_extents(tensor, field, shape)
    return dtype, extents


def _checked_extents(
    tensor: tensor_pb2.Tensor, field: str, shape: Sequence[int | None] | None
) -> tuple[int, ...]:
    extents = tuple(tensor.shape)
    if len(extents) > MAX_RANK:
        raise invalid(f"{field}.shape", f"has {len(extents)} axes; the most is {MAX_RANK}")
    if any(extent < 0 for extent in extents):
        raise invalid(f"{field}.shape", f"{list(extents)} has a negative extent")
    if math.prod(extent or 1 for extent in extents) > MESSAGE_BYTES:  # numpy refuses 2**63 beside 0
        raise invalid(f"{field}.shape", f"{list(extents)} is more than a message can hold")
    if shape is not None and not _fits(extents, shape):
        expected = "[" + ", ".join("any" if each is None else str(each) for each in shape) + "]"
        raise invalid(f"{field}.shape", f"{list(extents)} does not fit; it must be {expected}")
    return extents


def _fits(extents: Sequence[int], shape: Sequence[int | None]) -> bool:
    return len(extents) == len(shape) and all(
        each is None or extent == each for extent, each in zip(extents, shape, strict=True)
    )


def rows(tensor: tensor_pb2.Tensor) -> list[tensor_pb2.Tensor]:
    """A checked Tensor [n, ...] as n Tensors [...], in order."""
    count, *rest = tensor.shape
    data = tensor.data
    size = len(data) // max(count, 1)
    return [
        tensor_pb2.Tensor(dtype=tensor.dtype, shape=rest, data=data[i * size : (i + 1) * size])
        for i in range(count)
    ]


def to_torch(
    tensor: tensor_pb2.Tensor,
    field: str,
    *,
    dtypes: Collection[np.dtype[Any]] | None = None,
    shape: Sequence[int | None] | None = None,
) -> torch.Tensor:
    """`decode`, as a torch tensor of its own memory on the CPU."""
    import torch

    array = decode(tensor, field, dtypes=dtypes, shape=shape)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view("<u2").copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def from_torch(tensor: torch.Tensor) -> tensor_pb2.Tensor:
    """A torch tensor, on any device, as a Tensor."""
    import torch

    host = tensor.detach().cpu().contiguous()
    if host.dtype == torch.bfloat16:
        return encode(host.view(torch.uint16).numpy().view(ml_dtypes.bfloat16))
    return encode(host.numpy())
