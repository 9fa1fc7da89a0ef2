"""Builds a stage's request field by field, and records where each field comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


class StageRequest(Generic[M]):
    """A stage's request, or a message in one, as it is built.

    Args:
        message: of the class to build, empty.
    """

    def __init__(self, message: M) -> None:
        self.message = message
        self.origins: dict[str, str] = {}
        """Paths in the public request, by the paths in the message that were set from there."""

    def set(self, path: str, value: object, origin: str) -> None:
        """Set a field of the message, or of a message in it; None leaves it absent, which a stage
        may find wrong too.

        Args:
            path: of the field, dotted.
            value: a number, a text, or a message, which is copied.
            origin: path in the public request of what the value was made from.
        """
        self.origins[path] = origin
        if value is None:
            return
        *parents, name = path.split(".")
        target: Any = self.message
        for parent in parents:
            target = getattr(target, parent)
        if isinstance(value, Message):
            field = getattr(target, name)
            field.SetInParent()  # an empty message is one too
            field.CopyFrom(value)
        else:
            setattr(target, name, value)

    def extend(self, path: str, values: Iterable[object], origin: str) -> None:
        """Append to a list of the message, or of a message in it; arguments as of `set`."""
        self.origins[path] = origin
        *parents, name = path.split(".")
        target: Any = self.message
        for parent in parents:
            target = getattr(target, parent)
        getattr(target, name).extend(values)

    def put(self, path: str, part: StageRequest[Any]) -> None:
        """Set a field to a message that was built alike, with its origins."""
        self.set(path, part.message, "")
        del self.origins[path]
        self.origins |= {f"{path}.{inner}": origin for inner, origin in part.origins.items()}
