"""What the contract says that a field takes: read from its options once, checked on any message.

The options stand on the fields of protos/kandinsky/v1 (constraint.proto). A check looks at the
lengths of lists and at the shapes of tensors first, and at nothing in one that is too long: what it
costs depends on the contract and on the limit, not on how much a caller sends. What depends on a
model or on other fields is the gateway's to check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from kandinsky.v1 import tensor_pb2
from kandinsky.v1.constraint_pb2 import Constraint, constraint
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Violation
from kandinsky.wire.tensors import MAX_RANK

_FLOATS = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT})
_TENSOR = tensor_pb2.Tensor.DESCRIPTOR.full_name


def check(message: Message, *, most: int | None = None, path: str = "") -> list[Violation]:
    """What is wrong with a message by the constraints of its fields, in the order of its fields.

    Every oneof of the message has to be set: a request of the contract has no optional one.

    Args:
        message: a request, or a message in one.
        most: elements that a list may have, and rows that a tensor with a row an item or an image
            may have: images that a request may ask for. None: any number.
        path: of the message in the request, with a dot at its end; "" for the request.
    """
    return list(_of_message(message, most, path))


@dataclass(frozen=True)
class _Field:
    """A field of a message, and what it takes."""

    name: str
    rule: Constraint
    is_list: bool
    is_text: bool
    is_float: bool
    has_presence: bool
    tensor: bool
    message: bool
    enum: EnumDescriptor | None

    @property
    def takes_anything(self) -> bool:
        """Whether no value of it is wrong; such a field is not even read, for bytes are large."""
        bounded = any(self.rule.HasField(name) for name in ("min", "max", "above"))
        return not (self.is_list or self.message or self.enum or self.rule.required or bounded)


@dataclass(frozen=True)
class _Schema:
    """The fields of a message that are checked, and its oneofs with the names of their members."""

    checked: tuple[_Field, ...]
    oneofs: tuple[tuple[str, tuple[str, ...]], ...]


@cache
def _schema(descriptor: Descriptor) -> _Schema:
    option = cast(Any, constraint)  # the stubs know no extension of ours
    fields = [
        _Field(
            name=field.name,
            rule=field.GetOptions().Extensions[option],
            is_list=field.is_repeated,
            is_text=field.type == FieldDescriptor.TYPE_STRING,
            is_float=field.type in _FLOATS,
            has_presence=field.has_presence,
            tensor=field.message_type is not None and field.message_type.full_name == _TENSOR,
            message=field.message_type is not None,
            enum=field.enum_type,
        )
        for field in descriptor.fields
    ]
    oneofs = [
        (oneof.name, tuple(field.name for field in oneof.fields))
        for oneof in descriptor.oneofs
        if not oneof.name.startswith("_")  # protobuf's own, of an optional field
    ]
    checked = tuple(field for field in fields if not field.takes_anything)
    return _Schema(checked, tuple(oneofs))


def _of_message(message: Any, most: int | None, path: str) -> Iterator[Violation]:
    schema = _schema(message.DESCRIPTOR)
    for name, members in schema.oneofs:
        if message.WhichOneof(name) is None:
            yield Violation(path.removesuffix("."), f"is required; give one of {_listed(members)}")
    for field in schema.checked:
        value, at = getattr(message, field.name), f"{path}{field.name}"
        if field.is_list:
            yield from _of_list(value, field, most, at)
        elif not field.has_presence or message.HasField(field.name):
            yield from _of_value(value, field, most, at)
        elif field.rule.required and not _in_oneof(field, schema):
            yield Violation(at, "is required")


def _of_list(values: Any, field: _Field, most: int | None, path: str) -> Iterator[Violation]:
    if most is not None and len(values) > most:
        yield Violation(path, f"there are {len(values)}; the most is {most}")
        return
    if field.rule.required and not values:
        yield Violation(path, "is empty; give at least one")
    for i, value in enumerate(values):
        yield from _of_value(value, field, most, f"{path}[{i}]")


def _of_value(value: Any, field: _Field, most: int | None, path: str) -> Iterator[Violation]:
    if field.tensor:
        yield from _of_tensor(value, field.rule, most, path)
    elif field.message:
        yield from _of_message(value, most, f"{path}.")
    elif field.is_text:
        if field.rule.required and not value.strip():
            yield Violation(path, "is empty")
    elif field.enum is not None:
        if value not in field.enum.values_by_number:
            yield Violation(path, f"unknown {field.name} {value}; use {_names(field.enum)}")
    elif wrong := _out_of_range(value, field):
        yield Violation(path, wrong)


def _of_tensor(
    tensor: tensor_pb2.Tensor, rule: Constraint, most: int | None, path: str
) -> Iterator[Violation]:
    shape = tensor.shape
    if len(shape) > MAX_RANK:
        yield Violation(f"{path}.shape", f"has {len(shape)} axes; the most is {MAX_RANK}")
        return
    if not rule.HasField("axes"):
        return
    has_rows = rule.one_or_each or rule.one_or_each_image
    if has_rows and most is not None and shape and shape[0] > most:
        yield Violation(f"{path}.shape", f"has {shape[0]} rows; the most is {most}")
    elif 0 in shape:
        yield Violation(f"{path}.shape", f"{list(shape)} holds no value")
    else:
        try:
            tensors.decode(tensor, path, dtypes=tensors.FLOATS, shape=(None,) * rule.axes)
        except KandinskyError as error:
            yield from error.violations


def _out_of_range(value: float, field: _Field) -> str | None:
    """What is wrong with a number; None for one that its field takes."""
    rule, shown = field.rule, f"{value:g}" if field.is_float else str(value)
    has_min, has_max, has_above = (rule.HasField(name) for name in ("min", "max", "above"))
    if not math.isfinite(value):
        return f"{shown} is not finite"
    if has_above and not (value > rule.above and (not has_max or value <= rule.max)):
        return f"{shown} is not above {rule.above:g}" + (f", up to {rule.max:g}" if has_max else "")
    if has_min and has_max and not rule.min <= value <= rule.max:
        return f"{shown} is outside {rule.min:g} to {rule.max:g}"
    if has_min and value < rule.min:
        return f"{shown} is less than {rule.min:g}"
    if has_max and value > rule.max:
        return f"{shown} is greater than {rule.max:g}"
    return None


def one_or_each(message: Message, *, of_image: bool = False, path: str = "") -> dict[str, int]:
    """How many elements each list has, and rows each tensor, that has one for all or one for each.

    Those that are left out are not in it.

    Args:
        message: a request, or a message in one.
        of_image: those with one for each image, in place of those with one for each item.
        path: of the message in the request, with a dot at its end; "" for the request.
    """
    found: dict[str, int] = {}
    for field in _schema(message.DESCRIPTOR).checked:
        value, at = getattr(message, field.name), f"{path}{field.name}"
        counted = field.rule.one_or_each_image if of_image else field.rule.one_or_each
        if field.is_list:
            if counted and len(value):
                found[at] = len(value)
        elif field.message and message.HasField(field.name):
            if not field.tensor:
                found |= one_or_each(value, of_image=of_image, path=f"{at}.")
            elif counted and value.shape:
                found[f"{at}.shape"] = value.shape[0]
    return found


def _in_oneof(field: _Field, schema: _Schema) -> bool:
    return any(field.name in members for _, members in schema.oneofs)


def _names(enum: EnumDescriptor) -> str:
    """The names of an enum's values but the first, without what they begin with alike."""
    first, *others = (value.name for value in enum.values)
    prefix = first.removesuffix("UNSPECIFIED")
    return _listed([name.removeprefix(prefix) for name in others])


def _listed(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else str(last)
