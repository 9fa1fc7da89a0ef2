"""Counts of a request against its model's limits, before anything is built for each element."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.faults import Faults
from kandinsky.v1 import tensor_pb2
from kandinsky.wire.tensors import MAX_RANK


def check_counts(message: Any, most: int, faults: Faults, path: str = "") -> None:
    """Record a violation for each list with too many elements, and each tensor with too many axes.

    Looks at lengths alone: what it costs depends on the fields of the message, not on how much is
    in them, and no element of a list that is too long is touched.

    Args:
        message: a request, or a message in one.
        most: elements that a list may have: images that a request may ask for.
        faults: takes the violations.
        path: of the message in the request, with a dot at its end; "" for the request.
    """
    if isinstance(message, tensor_pb2.Tensor):
        check_axes(message, path.removesuffix("."), faults)
        return
    for field in message.DESCRIPTOR.fields:
        name = f"{path}{field.name}"
        holds_messages = field.type == FieldDescriptor.TYPE_MESSAGE
        if field.is_repeated:
            elements = getattr(message, field.name)
            if len(elements) > most:
                faults.add(name, f"there are {len(elements)}; the most is {most}")
            elif holds_messages:
                for i, element in enumerate(elements):
                    check_counts(element, most, faults, f"{name}[{i}].")
        elif holds_messages and message.HasField(field.name):
            check_counts(getattr(message, field.name), most, faults, f"{name}.")


def check_axes(tensor: tensor_pb2.Tensor, field: str, faults: Faults) -> None:
    """Record a violation for a tensor whose shape has more axes than any may have."""
    if len(tensor.shape) > MAX_RANK:
        faults.add(f"{field}.shape", f"has {len(tensor.shape)} axes; the most is {MAX_RANK}")
