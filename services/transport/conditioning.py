"""Reading a request's Conditioning as the rows that a network follows."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from kandinsky.catalog.family import ConditioningField, Unconditional
from kandinsky.v1 import conditioning_pb2
from kandinsky.wire.errors import KandinskyError, Violation, invalid_fields
from services.transport import reading

PATH = "conditioning."
NEGATIVE = "negative_"
"""Before the name of a field: the other side of guidance."""


def read(
    message: conditioning_pb2.Conditioning,
    declared: Sequence[ConditioningField],
    shapes: Mapping[str, Sequence[int]],
    guided: bool,
    like: torch.Tensor,
    learned: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> dict[str, torch.Tensor]:
    """What a network follows, [rows, *shape] each; with guidance the unconditional row first.

    Args:
        message: holds them.
        declared: the fields that the family's stage reads.
        shapes: of a row of each that this checkpoint reads, by its name.
        guided: whether there is an unconditional row. Without, `negative_` fields are not read.
        like: has the device and the dtype; a mask is bool.
        learned: the network's own unconditional sides, by field: rows of those that are left out.

    Raises:
        KandinskyError: INVALID_FIELD with all that are missing, have another shape, or are not
            read by this model.
    """
    fields = [field for field in declared if field.name in shapes]
    violations = _unread(message, fields)
    rows: dict[str, torch.Tensor] = {}
    for field in fields:
        try:
            rows[field.name] = _rows(
                message, field, shapes[field.name], guided, like, learned.get(field.name)
            )
        except KandinskyError as error:
            violations.extend(error.violations)
    if violations:
        raise invalid_fields(violations)
    return rows


def _rows(
    message: conditioning_pb2.Conditioning,
    field: ConditioningField,
    shape: Sequence[int],
    guided: bool,
    like: torch.Tensor,
    learned: torch.Tensor | None,
) -> torch.Tensor:
    like = like.bool() if field.name == "text_mask" else like
    sides: dict[str, torch.Tensor] = {}
    violations: list[Violation] = []
    for side in (NEGATIVE, "") if guided and field.unconditional is not None else ("",):
        name = side + field.name
        try:
            own = None if message.HasField(name) else _own(message, field, side, shape, learned)
            found = reading.tensor(message, name, PATH, shape, like) if own is None else own
            sides[side] = found.to(like)
        except KandinskyError as error:
            violations.extend(error.violations)
    if violations:
        raise invalid_fields(violations)
    if guided and field.unconditional is None:
        return sides[""].expand(2, *shape)
    return torch.cat(list(sides.values()))


def _own(
    message: conditioning_pb2.Conditioning,
    field: ConditioningField,
    side: str,
    shape: Sequence[int],
    learned: torch.Tensor | None,
) -> torch.Tensor | None:
    """What the stage has for a side that is left out, [1, *shape]; None where it has nothing."""
    if side and learned is not None:
        return learned[None]
    is_zeros = bool(side) and field.unconditional is Unconditional.ZEROS
    if is_zeros or (field.optional and not message.HasField(field.name)):
        return torch.zeros(1, *shape)
    return None


def _unread(
    message: conditioning_pb2.Conditioning, fields: Sequence[ConditioningField]
) -> list[Violation]:
    """Fields that are set and that no row is made of."""
    known = {field.name for field in fields} | {
        NEGATIVE + field.name for field in fields if field.unconditional is not None
    }
    return [
        Violation(PATH + field.name, "this model does not read it")
        for field, _ in message.ListFields()
        if field.name not in known
    ]
