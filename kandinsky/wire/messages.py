"""Bytes to messages, with an error of ours where they are none.

A server that lets gRPC decode its requests answers what cannot be decoded with UNKNOWN and gRPC's
own text, before any handler is asked. Ours register their methods with the bytes as the request,
and decode here.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from kandinsky.wire.errors import KandinskyError, Reason, Violation, invalid

M = TypeVar("M", bound=Message)

MOST_VALUES = 16_384
"""Fields and elements in one request, nested ones included; the bytes of a tensor or a file are
one. Decoded, an empty element of two bytes can take a hundred, so that 64 MiB of them would take
gigabytes."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_BYTES_LIKE = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})


class UndecodableError(KandinskyError):
    """Bytes that encode no message of the class that the method takes."""

    def __init__(self, kind: type[Message]) -> None:
        why = f"the message cannot be decoded as a {kind.DESCRIPTOR.full_name}"
        super().__init__(Reason.INVALID_FIELD, why, violations=[Violation("", why)])


def request_class(method: MethodDescriptor) -> type[Message]:
    """The class of a method's request."""
    return GetMessageClass(method.input_type)


def parse(kind: type[M], data: bytes) -> M:
    """The message of class `kind` that `data` encodes.

    Raises:
        UndecodableError: it encodes none.
        KandinskyError: INVALID_FIELD: it encodes one of more than MOST_VALUES values.
    """
    try:
        _check_values(kind.DESCRIPTOR, data)
        return kind.FromString(data)
    except (DecodeError, IndexError) as error:  # IndexError: the data ends within a number
        raise UndecodableError(kind) from error


def _check_values(descriptor: Any, data: bytes) -> None:
    """Walks the encoding without decoding it; depth first, by a stack of its own."""
    room = MOST_VALUES
    # Where each message that is still to be walked starts and ends, what it is, and the field of
    # the whole that it is in.
    stack: list[tuple[int, int, Any, str]] = [(0, len(data), descriptor, "")]
    while stack:
        at, end, message, field = stack.pop()
        fields = message.fields_by_number
        while at < end:
            tag, at = _varint(data, at)
            known, wire = fields.get(tag >> 3), tag & 7
            within = field or (known.name if known else "")
            room -= 1
            if wire == _BYTES:
                size, at = _varint(data, at)
                if at + size > end:
                    raise DecodeError("a field is longer than its message")
                if known is not None and known.message_type is not None:
                    stack.append((at, at + size, known.message_type, within))
                elif known is not None and known.type not in _BYTES_LIKE:
                    room -= size  # packed numbers, of at least a byte each
                at += size
            elif wire == _VARINT:
                _, at = _varint(data, at)
            elif wire in (_FIXED_64, _FIXED_32):
                at += 8 if wire == _FIXED_64 else 4
            else:
                raise DecodeError("groups are not a part of proto3")
            if room < 0:
                raise invalid(within, f"the request holds more than {MOST_VALUES} values")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise DecodeError("a number is too long")
