"""Ctrl-C without a traceback, at any moment. Imports nothing that takes time."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""Exit code, as shells state it for a program that SIGINT ended."""


def leave_at_once() -> None:
    """Let SIGINT end this process on the spot, with nothing said.

    For as long as there is nothing to undo, such as during imports, where an exception may be
    swallowed or printed. A SIGINT that the parent has had ignored stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def undoing() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt inside the block, which can then undo what it began."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not _leave or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
