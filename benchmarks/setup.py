"""What the command line says, to every table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kandinsky.catalog.entry import CatalogEntry

CONCURRENCIES = (1, 8, 16, 32)
Say = Callable[[str], None]
"""Takes a sentence of progress."""


@dataclass(frozen=True)
class Setup:
    """The model, and how much is measured."""

    entry: CatalogEntry
    folders: tuple[Path, ...]
    """Absolute catalog folders, beside the built-in one."""
    decoders: int
    """Decoder replicas of this system, and replicas of request batching."""
    quick: bool
    """Fewer and shorter rounds; the figures are no good for publishing."""

    eager: bool = False
    """Nobody compiles: of many sizes and canvases that takes longer than to measure them."""
    concurrencies: tuple[int, ...] = CONCURRENCIES
    """Requests open at the same time, each measured."""
    runtime: Path | None = None
    """This system's runtime options, as `kandinsky tune` wrote them; tuned first where absent."""

    @property
    def server_options(self) -> list[str]:
        """Words for `kandinsky up`."""
        return [word for folder in self.folders for word in ("--catalog", str(folder))]
