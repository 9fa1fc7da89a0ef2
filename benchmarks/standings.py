"""The figures of a contest: one row a side and concurrency, ratios to each baseline."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.contest import Kind, Rounds, Side, fastest
from benchmarks.figures import (
    Round,
    latency_ratio,
    median_latency,
    median_throughput,
    percentile,
    throughput_ratio,
)
from benchmarks.load import ServedRound
from benchmarks.report import columns, number


@dataclass(frozen=True)
class Row:
    """One side's figures at a concurrency, each over all its rounds."""

    side: str
    kind: str
    concurrency: int
    images_a_second: float
    over_bare: float
    """Times the throughput of the faster bare side."""
    over_batched: float | None
    """Times the throughput of request batching at the same concurrency; None where it has none."""
    latency_over_bare: float
    """Times its latency; above 1 is slower."""
    p50: float
    """Seconds."""
    p95: float
    """Seconds."""
    peak_rows: float | None
    """Most rows in one decoder forward, mean over the pictures."""
    shared_share: float | None
    """Share of decoder forwards that held rows of several pictures."""


@dataclass(frozen=True)
class Standings:
    """What was played, and the figures that come of it."""

    sides: Sequence[Side]
    rounds: Rounds

    @property
    def baseline(self) -> Side:
        """The bare side with the faster thread count."""
        return fastest(self.sides, Kind.BARE, self.rounds, 1)

    def rows(self) -> list[Row]:
        """Side by side, each by concurrency."""
        return [
            self._row(side, concurrency, rounds)
            for side in self.sides
            for (name, concurrency), rounds in self.rounds.items()
            if name == side.name
        ]

    def table(self, title: str) -> Table:
        """Throughput and latency, a row a side and concurrency."""
        names = ("side", "open", "images/s", "times bare", "times batching", "p50, s", "p95, s")
        table = columns(title, (*names, "peak rows", "shared forwards"))
        baseline, last = self.baseline.name, ""
        for row in self.rows():
            if last and row.side != last:
                table.add_section()
            last = row.side
            table.add_row(
                row.side,
                str(row.concurrency),
                number(row.images_a_second),
                "baseline" if row.side == baseline else number(row.over_bare),
                number(row.over_batched),
                number(row.p50, ".3f"),
                number(row.p95, ".3f"),
                number(row.peak_rows, ".1f"),
                number(row.shared_share, ".0%"),
            )
        return table

    def content(self) -> dict[str, Any]:
        """Rows, and the rounds that they come from, JSON-able."""
        raw = [
            {
                "side": name,
                "concurrency": concurrency,
                "rounds": [{"seconds": one.seconds, "latencies": one.latencies} for one in rounds],
            }
            for (name, concurrency), rounds in self.rounds.items()
        ]
        return {
            "baseline": self.baseline.name,
            "rows": [asdict(row) for row in self.rows()],
            "raw": raw,
        }

    def _row(self, side: Side, concurrency: int, rounds: Sequence[Round]) -> Row:
        bare = self.rounds[self.baseline.name, 1]
        batched = self._batched(concurrency)
        is_served = side.kind is Kind.SERVED
        latencies = [latency for one in rounds for latency in one.latencies]
        served = [one for one in rounds if isinstance(one, ServedRound)]
        return Row(
            side=side.name,
            kind=side.kind.value,
            concurrency=concurrency,
            images_a_second=median_throughput(rounds),
            over_bare=throughput_ratio(rounds, bare),
            over_batched=throughput_ratio(rounds, batched) if is_served and batched else None,
            latency_over_bare=latency_ratio(rounds, bare),
            p50=median_latency(rounds),
            p95=percentile(latencies, 0.95),
            peak_rows=_mean([one.peak_rows for one in served]),
            shared_share=_mean([one.shared_share for one in served]),
        )

    def _batched(self, concurrency: int) -> list[Round] | None:
        names = [side.name for side in self.sides if side.kind is Kind.BATCHED]
        return self.rounds.get((names[0], concurrency)) if names else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
