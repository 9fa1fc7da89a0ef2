"""Where a report goes: heading, JSON and plot, the same for every table."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.machine import Machine
from benchmarks.setup import Report


def heading(machine: Machine) -> str:
    """What the figures were measured on, in two lines."""
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return (
        f"{machine.cores} cores for every side, {machine.processor}, {machine.memory_gib} GiB; "
        f"networks on {machine.device}; load {machine.load} before the start\n"
        f"commit {machine.commit}, {versions}"
    )


def columns(title: str, names: Sequence[str]) -> Table:
    """An empty table; its first column holds words, the others numbers."""
    table = Table(title=title)
    for name in names:
        first = not table.columns
        table.add_column(name, justify="left" if first else "right", no_wrap=first)
    return table


def number(value: float | None, form: str = ".2f") -> str:
    """A figure of a table; empty where there is none."""
    return "" if value is None else format(value, form)


def cells(table: Table) -> dict[str, list[Any]]:
    """A table's column names and its rows of words, JSON-able."""
    filled = [list(column.cells) for column in table.columns]
    return {
        "columns": [str(column.header) for column in table.columns],
        "cells": [[str(cell) for cell in row] for row in zip(*filled, strict=True)],
    }


def write(name: str, report: Report, machine: Machine, model: str, out: Path) -> tuple[Path, Path]:
    """Writes a table's JSON and PNG plot into a folder; gives their paths."""
    out.mkdir(parents=True, exist_ok=True)
    figures, task = out / f"{name}.json", out / f"{name}.png"
    content = {"table": name, "model": model, "machine": asdict(machine), "note": report.note()}
    text = json.dumps({**content, **cells(report.table()), **report.content()}, indent=1)
    figures.write_text(text + "\n", encoding="utf-8")
    _plot(report, task)
    return figures, task


def _plot(report: Report, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    report.plot(axes)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
