"""The library that clients and services of kandinsky-serve share. Never imports torch or ray.

The names below are loaded when first used, so that `import kandinsky` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kandinsky.client import AsyncClient, Client, Generated, Preview, Progress, Queued
    from kandinsky.wire.errors import KandinskyError, Reason, Violation

_HOMES = {
    "AsyncClient": "kandinsky.client",
    "Client": "kandinsky.client",
    "Generated": "kandinsky.client",
    "KandinskyError": "kandinsky.wire.errors",
    "Preview": "kandinsky.client",
    "Progress": "kandinsky.client",
    "Queued": "kandinsky.client",
    "Reason": "kandinsky.wire.errors",
    "Violation": "kandinsky.wire.errors",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Generated",
    "KandinskyError",
    "Preview",
    "Progress",
    "Queued",
    "Reason",
    "Violation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
