"""Images a second over open requests, a panel for each size."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.full_size.report import Row

LINES = {
    "bare, as it comes, in sequence": lambda row: row.group == "a",
    "bare, its fastest way": lambda row: row.best,
    "engine": lambda row: row.group == "c",
}


def write_plot(path: Path, heading: str, rows: Sequence[Row]) -> None:
    """Draws it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    sizes = sorted({row.pixels for row in rows})
    figure, panels = pyplot.subplots(
        1, len(sizes), figsize=(1 + 4.5 * len(sizes), 4.5), layout="constrained", squeeze=False
    )
    for axes, pixels in zip(panels[0], sizes, strict=True):
        for label, belongs in LINES.items():
            found = [
                row
                for row in rows
                if row.pixels == pixels and belongs(row) and row.images_a_second is not None
            ]
            axes.plot(
                [row.concurrency for row in found],
                [row.images_a_second for row in found],
                marker="o",
                label=label,
            )
        axes.set(title=f"{pixels}x{pixels}", xlabel="requests open", ylabel="images per second")
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.suptitle(heading)
    figure.savefig(path, dpi=150)
