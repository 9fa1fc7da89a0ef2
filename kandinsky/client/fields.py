"""Python values into the fields of a message, with the field's path in every error."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from kandinsky.client.images import input_images, tensor
from kandinsky.client.options import ImagePrompt
from kandinsky.wire.errors import invalid


def put(message: Message, values: Mapping[str, Any], path: str) -> None:
    """Set the fields of a message by name; one whose value is None stays unset.

    Args:
        message: which.
        values: numbers, texts, arrays, images, names of enum values (`png`), or messages.
        path: of the message, from the request; "" for the request itself.

    Raises:
        KandinskyError: INVALID_FIELD for a value that does not fit its field's type.
        OSError: an image file cannot be read.
    """
    fields: Any = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        if value is not None:
            _put(message, fields[name], value, f"{path}.{name}" if path else name)


def _put(message: Any, field: FieldDescriptor, value: Any, path: str) -> None:
    kind = field.message_type.full_name if field.message_type is not None else ""
    if kind == "kandinsky.v1.InputImage" and field.is_repeated:
        getattr(message, field.name).extend(input_images(value, path))
    elif kind == "kandinsky.v1.Tensor":
        getattr(message, field.name).CopyFrom(tensor(value, path))
    elif kind == "kandinsky.v1.Adapter":
        _append_adapters(getattr(message, field.name), value, path)
    elif kind == "kandinsky.v1.GuidanceInterval" and not isinstance(value, Message):
        _put_interval(getattr(message, field.name), value, path)
    elif kind and isinstance(value, Mapping):
        put(getattr(message, field.name), value, path)
    elif kind:
        getattr(message, field.name).CopyFrom(value)
    elif field.is_repeated and field.type != FieldDescriptor.TYPE_STRING:
        _append_numbers(getattr(message, field.name), value, path)
    elif field.is_repeated:
        _append_texts(getattr(message, field.name), value, path)
    elif field.enum_type is not None:
        _set(message, field.name, _number(field.enum_type, value, path), path)
    else:
        _set(message, field.name, value, path)


def _put_interval(interval: Message, value: Any, path: str) -> None:
    try:
        low, high = value
    except (TypeError, ValueError) as error:
        raise invalid(path, f"cannot be {value!r}: it has a low and a high end") from error
    put(interval, {"low": low, "high": high}, path)


def _append_adapters(adapters: Any, value: Any, path: str) -> None:
    named = value if isinstance(value, Mapping) else dict.fromkeys(value)
    for i, (name, how) in enumerate(named.items()):
        values = how.values() if isinstance(how, ImagePrompt) else {"scale": how}
        put(adapters.add(), {"name": name, **values}, f"{path}[{i}]")


def _append_texts(texts: Any, value: Any, path: str) -> None:
    for i, text in enumerate([value] if isinstance(value, str) else value):
        try:
            texts.append(text)
        except (TypeError, ValueError) as error:
            raise invalid(f"{path}[{i}]", "is not Unicode text") from error


def _append_numbers(numbers: Any, values: Any, path: str) -> None:
    for i, number in enumerate(values):
        try:
            numbers.append(number)
        except (TypeError, ValueError) as error:
            raise invalid(f"{path}[{i}]", f"cannot be {number!r}") from error


def _set(message: Message, name: str, value: Any, path: str) -> None:
    try:
        setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise invalid(path, f"cannot be {value!r}") from error


def _number(enum: EnumDescriptor, value: Any, path: str) -> int:
    """`png` to OUTPUT_FORMAT_PNG, and so on."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    names = {known.name.removeprefix(prefix).lower(): known.number for known in enum.values[1:]}
    if value not in names:
        raise invalid(path, f"unknown value {value!r}; use {', '.join(names)}")
    return names[value]
