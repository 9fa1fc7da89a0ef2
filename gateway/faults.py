"""Collects what is wrong with a request, so that its caller learns everything at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Violation, invalid_fields

MOST_NAMED = 16
"""Violations that one error names: a status travels in HTTP/2 headers, which peers cap at 8 KiB."""


def counted(count: int, unit: str) -> str:
    """Such as "1 prompt" and "2 prompts"."""
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


class Faults:
    """The violations of one request, in the order in which they were found."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """Notes what is wrong with a field."""
        self._violations.append(Violation(field, description))

    def extend(self, error: KandinskyError) -> None:
        """Notes what an error names."""
        self._violations.extend(error.violations)

    @property
    def any(self) -> bool:
        """Whether anything is wrong so far."""
        return bool(self._violations)

    def one_or_each(
        self, field: str, have: int, units: int, unit: str, have_what: str = "there are {}"
    ) -> None:
        """Note a list that is neither one for all nor one for each.

        Args:
            field: of the list.
            have: its elements; 0, a list that is left out, is not looked at.
            units: how many there are of what the elements are for; nor is it where there are none.
            unit: the name of one of those.
            have_what: how the sentence begins.
        """
        if units and have not in (0, 1, units):
            advice = "give 1" if units == 1 else f"give 1 for all, or {units}"
            self.add(field, f"{have_what.format(have)} for {counted(units, unit)}; {advice}")

    def share(self, field: str, value: float) -> None:
        """Notes a number that is not above 0 and up to 1."""
        if not 0 < value <= 1:  # true for NaN
            self.add(field, f"{value:g} is not above 0, up to 1")

    def integer(self, field: str, value: int, low: int, high: int) -> None:
        """Notes an integer outside `low` to `high`, both allowed."""
        if not low <= value <= high:
            self.add(field, f"{value} is outside {low} to {high}")

    def guidance(self, field: str, scale: float) -> None:
        """Notes a guidance scale that is not finite or is outside 0 to 100."""
        if not (math.isfinite(scale) and 0 <= scale <= 100):
            self.add(field, f"{scale} is no guidance scale; use 0 to 100")

    def side(self, field: str, pixels: int, *, multiple: int, low: int, high: int) -> None:
        """Notes a height or width that does not fit, and names the nearest ones that do."""
        if low <= pixels <= high and pixels % multiple == 0:
            return
        least, most = math.ceil(low / multiple) * multiple, high // multiple * multiple
        below = pixels // multiple * multiple
        nearest = sorted({min(max(near, least), most) for near in (below, below + multiple)})
        advice = "use " + " or ".join(map(str, nearest))
        if not low <= pixels <= high:
            self.add(field, f"{pixels} is outside {low} to {high}; {advice}")
        else:
            self.add(field, f"{pixels} is not a multiple of {multiple}; {advice}")

    def floats(
        self, field: str, tensor: tensor_pb2.Tensor, shape: Sequence[int | None]
    ) -> list[tensor_pb2.Tensor]:
        """The rows of a floating-point tensor; none, and a note, if it is not what it must be."""
        if 0 in tensor.shape:
            self.add(f"{field}.shape", f"{list(tensor.shape)[:8]} holds no value")
            return []
        try:
            tensors.decode(tensor, field, dtypes=tensors.FLOATS, shape=shape)
        except KandinskyError as error:
            self.extend(error)
            return []
        return tensors.rows(tensor)

    def raise_any(self) -> None:
        """Ends the request if anything is wrong with it.

        Raises:
            KandinskyError: INVALID_FIELD with every violation, the first ones if there are many.
        """
        named, more = self._violations[:MOST_NAMED], self._violations[MOST_NAMED:]
        if more:
            named.append(Violation("", f"and {len(more)} more"))
        if named:
            raise invalid_fields(named)
