"""`python -m benchmarks TABLE`: measures, and prints the table."""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.machine import cores, machine
from benchmarks.publish import publish
from benchmarks.report import heading, write
from benchmarks.setup import Report, Setup
from benchmarks.tables import TABLES
from kandinsky import KandinskyError
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogError
from services.local.child import ServerError

console = Console(width=None if sys.stdout.isatty() else 120)


def main(
    tables: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(TABLES)}. Default: all, in turn.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name in the catalog.")] = "shapes",
    catalog: Annotated[list[Path] | None, typer.Option(help="Folder of entries; repeat.")] = None,
    decoders: Annotated[
        list[int] | None,
        typer.Option(help="Decoder replicas; repeat for a server each. Default: 1, and as cores."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, 1 decoder.")] = False,
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
    counts = tuple(decoders or ([1] if quick else sorted({1, cores()})))
    try:
        setup = Setup(Catalog.load(folders)[model], folders, counts, quick)
        for name in tables or TABLES:
            figures, plot = _measure(name, setup, out)
            if into_docs:
                publish(figures, plot)
    except (CatalogError, LookupError, ServerError, OSError) as error:
        raise _failed(str(error)) from error
    except KandinskyError as error:
        raise _failed(f"the server refused: {error.message}") from error


def _measure(name: str, setup: Setup, out: Path) -> tuple[Path, Path]:
    about = machine()
    console.print(heading(about))
    module = importlib.import_module(TABLES[name])
    report: Report = module.measure(setup, lambda line: console.print(f"[dim]{line}[/dim]"))
    console.print(report.table())
    console.print(report.note())
    written = write(name, report, about, setup.entry.name, out)
    for path in written:
        console.print(path)
    return written


def _failed(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
