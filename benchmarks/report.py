"""What was measured as tables, as JSON and as a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.figures import (
    Round,
    latency_ratio,
    median_latency,
    median_throughput,
    percentile,
    throughput_ratio,
)
from benchmarks.machine import Machine
from benchmarks.measure import Measured


@dataclass(frozen=True)
class Row:
    """One side's figures, each over all its rounds; ratios are to the faster bare side."""

    side: str
    concurrency: int
    images_a_second: float
    throughput_ratio: float
    latency_ratio: float
    p50: float
    """Seconds."""
    p95: float
    """Seconds."""
    peak_rows: float | None = None
    """Most rows in one decoder forward, mean over the pictures."""
    shared_share: float | None = None
    """Share of decoder forwards that held rows of several pictures."""


def rows(measured: Measured) -> list[Row]:
    """The bare sides, then the served one at each concurrency."""
    bare = [
        _row(f"bare, {threads} thread(s)", 1, rounds, measured)
        for threads, rounds in measured.bare.items()
    ]
    side = f"served, {measured.stage_threads} thread(s) a stage"
    served = []
    for concurrency, rounds in measured.served.items():
        peak = sum(one.peak_rows for one in rounds) / len(rounds)
        shared = sum(one.shared_share for one in rounds) / len(rounds)
        served.append(_row(side, concurrency, rounds, measured, peak, shared))
    return bare + served


def overhead_table(measured: Sequence[Measured]) -> Table:
    """What gateway and stages add to the latency of one picture at a time."""
    table = Table(title="Latency, one request at a time")
    for name in ("side", "p50, s", "p95, s", "times the baseline"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for one in measured:
        for row in rows(one):
            if row.concurrency == 1:
                ratio = f"{row.latency_ratio:.2f}" + _mark(row, one)
                table.add_row(row.side, f"{row.p50:.3f}", f"{row.p95:.3f}", ratio)
        table.add_section()
    return table


def throughput_table(measured: Sequence[Measured]) -> Table:
    """Pictures a second with several requests open, over the bare pipelines in sequence."""
    table = Table(title="Throughput")
    names = ("side", "open", "images/s", "times the baseline", "p50, s", "p95, s")
    for name in (*names, "peak rows", "shared forwards"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for one in measured:
        for row in rows(one):
            table.add_row(
                row.side,
                str(row.concurrency),
                f"{row.images_a_second:.2f}",
                f"{row.throughput_ratio:.2f}" + _mark(row, one),
                f"{row.p50:.3f}",
                f"{row.p95:.3f}",
                "" if row.peak_rows is None else f"{row.peak_rows:.1f}",
                "" if row.shared_share is None else f"{row.shared_share:.0%}",
            )
        table.add_section()
    return table


def write_json(path: Path, machine: Machine, model: str, measured: Sequence[Measured]) -> None:
    """Writes every figure, and the rounds that it comes from."""
    runs = [
        {
            "stage_threads": one.stage_threads,
            "bare_threads_of_the_baseline": one.bare_threads,
            "largest_difference_of_255": one.difference,
            "rows": [asdict(row) for row in rows(one)],
            "seconds_and_latencies": {
                "bare": {str(threads): _raw(all_) for threads, all_ in one.bare.items()},
                "served": {str(number): _raw(all_) for number, all_ in one.served.items()},
            },
        }
        for one in measured
    ]
    content = {"model": model, "machine": asdict(machine), "runs": runs}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_plot(path: Path, model: str, measured: Sequence[Measured]) -> None:
    """Draws throughput over open requests."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for one in measured:
        served = [row for row in rows(one) if row.peak_rows is not None]
        axes.plot(
            [row.concurrency for row in served],
            [row.images_a_second for row in served],
            marker="o",
            label=served[0].side,
        )
        baseline = median_throughput(one.baseline)
        label = f"bare pipelines in sequence, {one.bare_threads} thread(s)"
        axes.axhline(baseline, linestyle="--", color="gray", label=label)
    axes.set(xlabel="requests open", ylabel="images per second", title=f"Throughput of {model}")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=150)


def _row(
    side: str,
    concurrency: int,
    rounds: Sequence[Round],
    measured: Measured,
    peak_rows: float | None = None,
    shared_share: float | None = None,
) -> Row:
    latencies = [latency for one in rounds for latency in one.latencies]
    return Row(
        side=side,
        concurrency=concurrency,
        images_a_second=median_throughput(rounds),
        throughput_ratio=throughput_ratio(rounds, measured.baseline),
        latency_ratio=latency_ratio(rounds, measured.baseline),
        p50=median_latency(rounds),
        p95=percentile(latencies, 0.95),
        peak_rows=peak_rows,
        shared_share=shared_share,
    )


def _mark(row: Row, measured: Measured) -> str:
    is_baseline = row.side == f"bare, {measured.bare_threads} thread(s)"
    return " (baseline)" if is_baseline else ""


def _raw(rounds: Sequence[Round]) -> list[dict[str, object]]:
    return [{"seconds": one.seconds, "latencies": one.latencies} for one in rounds]
