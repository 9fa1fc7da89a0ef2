"""`python -m benchmarks TABLE`: measures, and prints the table."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.machine import cores, machine
from benchmarks.publish import publish
from benchmarks.report import Report, heading, write
from benchmarks.setup import CONCURRENCIES, Setup
from kandinsky import KandinskyError
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogError
from services.local.child import ServerError

TABLES: Mapping[str, str] = {
    "overhead": "benchmarks.throughput:overhead",
    "throughput": "benchmarks.throughput:uniform",
    "mixed": "benchmarks.throughput:mixed_load",
    "operations": "benchmarks.operations.table:measure",
    "matrix-rate": "benchmarks.matrix_rate:measure",
    "cpu-time": "benchmarks.cpu_time:measure",
    "hops": "benchmarks.hops:measure",
    "spread": "benchmarks.spread:measure",
    "adapters": "benchmarks.adapters:measure",
    "snapshots": "benchmarks.snapshots:measure",
    "memory": "benchmarks.memory:measure",
    "cancel": "benchmarks.cancel:measure",
    "recovery": "benchmarks.recovery:measure",
    "fairness": "benchmarks.fairness:measure",
    "flood": "benchmarks.flood:measure",
    "attacks": "benchmarks.attacks:measure",
}
"""A function of setup and progress for each, which returns a Report."""

console = Console(width=None if sys.stdout.isatty() else 160)


def main(
    tables: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(TABLES)}. Default: all, in turn.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name in the catalog.")] = "shapes",
    catalog: Annotated[list[Path] | None, typer.Option(help="Folder of entries; repeat.")] = None,
    decoders: Annotated[
        int | None, typer.Option(help="Decoder replicas. Default: as many as cores.")
    ] = None,
    eager: Annotated[bool, typer.Option("--eager", help="Nobody compiles.")] = False,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Requests open; repeat. Default: 1, 8, 16, 32.")
    ] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="Written by `kandinsky tune`. Default: tune first.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter rounds.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for JSON and plots.")] = Path("out/bench"),
    into_docs: Annotated[
        bool, typer.Option("--publish", help="Put the tables into docs/benchmarks.md too.")
    ] = False,
) -> None:
    """Measure what serving costs and gains, each figure beside its baseline of the same run."""
    unknown = set(tables or ()) - TABLES.keys()
    if unknown:
        raise _failed(f"unknown table {', '.join(sorted(unknown))}; use {', '.join(TABLES)}")
    folders = tuple(folder.absolute() for folder in catalog or ())
    try:
        open_ = tuple(concurrency or CONCURRENCIES)
        entry = Catalog.load(folders)[model]
        setup = Setup(entry, folders, decoders or cores(), quick, eager, open_, runtime)
        for name in tables or TABLES:
            written = _measure(name, setup, out)
            if into_docs:
                publish(*written)
    except (CatalogError, LookupError, ServerError, OSError) as error:
        raise _failed(str(error)) from error
    except KandinskyError as error:
        raise _failed(f"the server refused: {error.message}") from error


def _measure(name: str, setup: Setup, out: Path) -> tuple[Path, Path]:
    about = machine()
    console.print(heading(about))
    module, _, function = TABLES[name].partition(":")
    measure = getattr(importlib.import_module(module), function)
    report: Report = measure(setup, lambda line: console.print(f"[dim]{line}[/dim]"))
    console.print(report.table())
    console.print(report.note)
    written = write(name, report, about, setup.entry.name, out)
    console.print(*written)
    return written


def _failed(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
