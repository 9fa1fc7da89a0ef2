"""`python -m benchmarks`: measures serving against the bare pipelines, and prints the tables."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.machine import cores, machine
from benchmarks.measure import CONCURRENCIES, FULL, QUICK, Measured, measure
from benchmarks.report import overhead_table, throughput_table, write_json, write_plot
from kandinsky import KandinskyError
from kandinsky.catalog.catalog import Catalog, CatalogError
from kandinsky.cli.child import ServerError

console = Console(width=None if sys.stdout.isatty() else 120)


class Table(StrEnum):
    """What can be measured."""

    OVERHEAD = "overhead"
    THROUGHPUT = "throughput"


def main(
    tables: Annotated[list[Table] | None, typer.Argument(help="Default: both.")] = None,
    model: Annotated[str, typer.Option(help="Name in the catalog.")] = "shapes",
    catalog: Annotated[list[Path] | None, typer.Option(help="Folder of entries; repeat.")] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="CPU threads of each stage; repeat. Default: 1, and all cores."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, 1 thread a stage.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for JSON and plot.")] = Path("out/bench"),
) -> None:
    """Measure what serving costs and gains, beside diffusers' pipelines on the same weights."""
    wanted = set(tables or Table)
    folders = [folder.absolute() for folder in catalog or []]
    counts = threads or ([1] if quick else sorted({1, cores()}))
    concurrencies = CONCURRENCIES if Table.THROUGHPUT in wanted else (1,)
    options = [word for folder in folders for word in ("--catalog", str(folder))]
    about = machine()
    console.print(
        f"{about.cores} cores for every side, {about.processor}, {about.memory_gib} GiB; "
        f"networks on {about.device}; load {about.load} before the start"
    )
    console.print(", ".join(f"{name} {number}" for name, number in about.versions.items()))
    measured: list[Measured] = []
    try:
        entry = Catalog.load(folders)[model]
        for count in counts:
            for news in measure(entry, QUICK if quick else FULL, count, concurrencies, options):
                if isinstance(news, Measured):
                    measured.append(news)
                else:
                    console.print(f"[dim]{news}[/dim]")
    except (CatalogError, LookupError, ServerError, OSError) as error:
        raise _failed(str(error)) from error
    except KandinskyError as error:
        raise _failed(f"the server refused: {error.message}") from error
    if Table.OVERHEAD in wanted:
        console.print(overhead_table(measured))
    if Table.THROUGHPUT in wanted:
        console.print(throughput_table(measured))
    defaults = entry.defaults
    console.print(
        f"{model}, {defaults.width}x{defaults.height}, {defaults.prior_steps} + {defaults.steps} "
        f"steps, guidance {defaults.guidance_scale:g}, {entry.dtype}, PNG on every side. "
        "Throughput and ratios are medians over interleaved rounds. Peak rows: the most rows in "
        "one decoder forward, mean over the pictures; a guided picture has two. "
        f"Served and bare picture differ by {max(one.difference for one in measured)} of 255."
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "figures.json", about, model, measured)
    console.print(out / "figures.json")
    if Table.THROUGHPUT in wanted:
        write_plot(out / "throughput.png", model, measured)
        console.print(out / "throughput.png")


def _failed(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
