"""What every table is measured with, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.table import Table

from benchmarks.machine import cores
from kandinsky.catalog.entry import CatalogEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Say = Callable[[str], None]
"""Takes a sentence of progress."""


@dataclass(frozen=True)
class Setup:
    """What the command line says."""

    entry: CatalogEntry
    folders: tuple[Path, ...]
    """Absolute catalog folders, beside the built-in one."""
    decoders: tuple[int, ...]
    """Decoder replicas: one server of this system for each, with one CPU thread a replica."""
    quick: bool
    """Fewer rounds, one decoder; the figures are no good for publishing."""

    @property
    def bare_threads(self) -> list[int]:
        """torch threads that the bare pipelines and request batching are tried with."""
        return [1] if self.quick else sorted({1, cores()})

    @property
    def server_options(self) -> list[str]:
        """Words for `kandinsky up`."""
        return [word for folder in self.folders for word in ("--catalog", str(folder))]


class Report(Protocol):
    """What a table's `measure(setup, say)` returns."""

    def table(self) -> Table:
        """The figures, for a terminal."""

    def note(self) -> str:
        """How they were measured, in sentences."""

    def content(self) -> dict[str, Any]:
        """The figures and what they come from, JSON-able; `rows` holds the table's."""

    def plot(self, axes: "Axes") -> None:
        """Draws the figures."""
