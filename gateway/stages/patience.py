"""Patience: how long a broken stage call is retried, and the pauses between its attempts."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds: a pause is drawn from half of a bound to all of it, which doubles up to the longest."""


class Patience:
    """Bounds the time that one stage call spends without an answer, over all its attempts.

    The time runs from a break to the next answer, and starts again from zero when the job has come
    further than in any attempt before. It does not run while a replica holds the job.

    Args:
        seconds: the bound; also the longest silence of an attempt whose replica has answered.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._broken_at: float | None = None
        self._breaks = 0
        self.pause = 0.0
        """Seconds to wait before the next attempt; drawn, so that calls do not return together."""

    @property
    def is_broken(self) -> bool:
        """Whether there was no answer since the latest break."""
        return self._broken_at is not None

    @property
    def is_over(self) -> bool:
        """Whether no further attempt is to be made."""
        return self._remaining() <= self.pause

    @property
    def silence(self) -> float:
        """Seconds for which the current attempt may stay silent from now on."""
        return self._remaining() if self.is_broken else self._seconds

    def note_break(self) -> None:
        """Start the time, unless it runs already, and draw the pause."""
        bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._breaks, 16))
        self.pause = random.uniform(bound / 2, bound)
        self._breaks += 1
        if self._broken_at is None:
            self._broken_at = time.monotonic()

    def note_answer(self) -> None:
        """Stop the time."""
        self._left, self._broken_at = self._remaining(), None

    def renew(self) -> None:
        """Restore all the time: the job has come further."""
        self._left, self._broken_at, self._breaks = self._seconds, None, 0

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop the time while the block runs."""
        was_broken = self.is_broken
        self.note_answer()
        yield
        self._broken_at = time.monotonic() if was_broken else None

    def _remaining(self) -> float:
        if self._broken_at is None:
            return self._left
        return self._left - (time.monotonic() - self._broken_at)
