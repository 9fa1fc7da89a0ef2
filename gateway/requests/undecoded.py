"""An input image whose headers alone are read: enough to validate a request and to plan it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Undecoded(Generic[T]):
    """An image or a mask that is decoded once the whole request has passed its checks.

    Args:
        field: its path in the request.
        size: height and width in pixels; None for a latent, which has no pixels to decode.
        load: decodes it, and raises KandinskyError (INVALID_FIELD) if it cannot be decoded.
        is_float: whether its pixels are floats, which are not resized.
    """

    def __init__(
        self,
        field: str,
        size: tuple[int, int] | None,
        load: Callable[[], T],
        *,
        is_float: bool = False,
    ) -> None:
        self.field = field
        self.size = size
        self.is_float = is_float
        self._load = load
        self._content: T | None = None

    @property
    def pixels(self) -> int:
        """How many it decodes to; 0 for a latent."""
        return 0 if self.size is None else self.size[0] * self.size[1]

    @property
    def content(self) -> T:
        """What was decoded.

        Raises:
            RuntimeError: it was not decoded, or was dropped.
        """
        if self._content is None:
            raise RuntimeError(f"{self.field} is not decoded")
        return self._content

    def decode(self) -> None:
        """Decode it and keep the content; raises what `load` does."""
        self._content = self._load()

    def drop(self) -> None:
        """Free the content."""
        self._content = None
