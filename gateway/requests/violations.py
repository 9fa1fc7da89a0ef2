"""Collects what is wrong with a request, so that its caller learns everything at once."""

from __future__ import annotations

import math
from collections.abc import Iterable

from kandinsky.wire.errors import KandinskyError, Violation, invalid_fields

MOST_NAMED = 16
"""Violations that one error names: a status travels in HTTP/2 headers, which peers cap at 8 KiB."""


def counted(count: int, unit: str) -> str:
    """Such as "1 prompt" and "2 prompts"."""
    return f"{count} {unit}" if count == 1 else f"{count} {_plural(unit)}"


def _plural(unit: str) -> str:
    return f"{unit}es" if unit.endswith("x") else f"{unit}s"


class Violations:
    """The violations of one request, in the order in which they were found.

    Args:
        found: those by the contract alone.
    """

    def __init__(self, found: Iterable[Violation] = ()) -> None:
        self._found = list(found)

    def add(self, field: str, description: str) -> None:
        """Record a violation."""
        self._found.append(Violation(field, description))

    def narrow(self, field: str, description: str) -> None:
        """Record a violation in place of the contract's own of this field, which says less."""
        self._found = [violation for violation in self._found if violation.field != field]
        self.add(field, description)

    def extend(self, error: KandinskyError) -> None:
        """Record the violations that an error names."""
        self._found.extend(error.violations)

    def within(self, field: str) -> bool:
        """Whether anything is wrong with a field, or with a part of it."""
        parts = (f"{field}.", f"{field}[")
        return any(v.field == field or v.field.startswith(parts) for v in self._found)

    def at(self, field: str) -> bool:
        """Whether anything is wrong with a field as a whole."""
        return any(violation.field == field for violation in self._found)

    def one_or_each(self, field: str, have: int, count: int, unit: str) -> None:
        """Record a list, or the rows of a tensor, that is neither one for all nor one for each.

        Args:
            field: of the list, or of the tensor's shape.
            have: its elements.
            count: how many there are of what the elements are for; 0 where that is not known.
            unit: the name of one of those.
        """
        if count and have not in (1, count):
            have_what = f"has {counted(have, 'row')}" if field.endswith(".shape") else None
            advice = "give 1" if count == 1 else f"give 1 for all, or {count}"
            sentence = f"{have_what or f'there are {have}'} for {counted(count, unit)}; {advice}"
            self.add(field, sentence)

    def integer(self, field: str, value: int, low: int, high: int) -> None:
        """Record an integer outside `low` to `high`, both allowed."""
        if not low <= value <= high:
            self.narrow(field, f"{value} is outside {low} to {high}")

    def side(self, field: str, pixels: int, *, multiple: int, low: int, high: int) -> None:
        """Record a height or width that does not fit, and name the nearest ones that do."""
        if low <= pixels <= high and pixels % multiple == 0:
            return
        least, most = math.ceil(low / multiple) * multiple, high // multiple * multiple
        below = pixels // multiple * multiple
        nearest = sorted({min(max(near, least), most) for near in (below, below + multiple)})
        advice = "use " + " or ".join(map(str, nearest))
        if not low <= pixels <= high:
            self.narrow(field, f"{pixels} is outside {low} to {high}; {advice}")
        else:
            self.narrow(field, f"{pixels} is not a multiple of {multiple}; {advice}")

    def raise_any(self) -> None:
        """End the request if anything is wrong with it.

        Raises:
            KandinskyError: INVALID_FIELD with every violation, the first ones if there are many.
        """
        named, more = self._found[:MOST_NAMED], self._found[MOST_NAMED:]
        if more:
            named.append(Violation("", f"and {len(more)} more"))
        if named:
            raise invalid_fields(named)
