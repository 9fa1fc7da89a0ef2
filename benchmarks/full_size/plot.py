"""Images a second over open requests, a panel for each size."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.full_size.report import Row


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
        measured = [row for row in rows if row.pixels == pixels and row.images_a_second]
        engine = [row for row in measured if row.group == "c"]
        for name in dict.fromkeys(row.side.rpartition(", ")[0] for row in engine):
            line = [row for row in engine if row.side.startswith(f"{name}, ")]
            axes.plot(
                [row.at_once for row in line],
                [row.images_a_second for row in line],
                marker="o",
                label=name,
            )
        for place, row in enumerate(row for row in measured if row.group != "c"):
            axes.axhline(row.images_a_second, color=f"C{place + 3}", linestyle="--", label=row.side)
        axes.set(title=f"{pixels}x{pixels}", xlabel="jobs open", ylabel="images per second")
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.suptitle(heading)
    figure.savefig(path, dpi=150)
