"""A table: its figures for a terminal, as JSON and as a plot."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from benchmarks.machine import Machine

Plot = Callable[["Axes"], object]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What a table's function returns."""

    title: str
    rows: Sequence[Row]
    """Figures by column, the same columns in each; floats are shown with three digits."""
    note: str
    """How they were measured, in sentences."""
    plot: Plot
    raw: Any = None
    """What the figures come from, JSON-able."""

    def cells(self) -> list[list[str]]:
        """The rows as words."""
        return [[cell(value) for value in row.values()] for row in self.rows]

    def table(self) -> "Table":
        """For a terminal; the first column holds words, the others numbers."""
        from rich.table import Table

        table = Table(title=self.title)
        for place, name in enumerate(self.rows[0]):
            table.add_column(name, justify="right" if place else "left")
        for row in self.cells():
            table.add_row(*row)
        return table


def cell(value: Any) -> str:
    """A figure as a word; empty where there is none."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def figures(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table that has a figure a row."""
    return [{"figure": name, "value": value} for name, value in found.items()]


def bars(rows: Sequence[Row], name: str, value: str, bound: float | None = None) -> Plot:
    """A plot with a bar a row, named and measured by two of its columns."""

    def plot(axes: "Axes") -> None:
        found = [row for row in rows if row[value] is not None][::-1]
        axes.bar_label(axes.barh([row[name] for row in found], [row[value] for row in found]))
        if bound is not None:
            axes.axvline(bound, linestyle="--", color="gray")
        axes.set(xlabel=value)
        axes.margins(x=0.15)

    return plot


def lines(rows: Sequence[Row], name: str, across: str, value: str) -> Plot:
    """A plot with a line for each name: a column over another."""

    def plot(axes: "Axes") -> None:
        for each in dict.fromkeys(row[name] for row in rows):
            mine = [row for row in rows if row[name] == each]
            axes.plot([row[across] for row in mine], [row[value] for row in mine], "o-", label=each)
        axes.set(xlabel=across, ylabel=value, ylim=(0, None))
        axes.legend()

    return plot


def heading(machine: "Machine") -> str:
    """What the figures were measured on."""
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return (
        f"{machine.cores} cores for every side, {machine.processor}, {machine.memory_gib} GiB; "
        f"networks on {machine.device}; load {machine.load} before the start\n"
        f"commit {machine.commit}, {versions}"
    )


def write(
    name: str, report: Report, machine: "Machine", model: str, out: Path
) -> tuple[Path, Path]:
    """Writes a table's JSON and PNG plot into a folder; gives their paths."""
    out.mkdir(parents=True, exist_ok=True)
    content, image = out / f"{name}.json", out / f"{name}.png"
    words = {"columns": list(report.rows[0]), "cells": report.cells()}
    about = {"table": name, "model": model, "machine": asdict(machine), "note": report.note}
    text = json.dumps({**about, **words, "rows": list(report.rows)}, indent=1).removesuffix("\n}")
    text += f',\n "raw": {json.dumps(report.raw)}\n}}\n'  # long, and on one line
    content.write_text(text, encoding="utf-8")
    draw(report.plot, report.title, image)
    return content, image


def draw(plot: Plot, title: str, path: Path) -> None:
    """Writes a plot as PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    plot(axes)
    axes.set_title(title)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
