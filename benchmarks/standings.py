"""The figures of a contest: one row a side and concurrency, ratios to each baseline."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.contest import Kind, Rounds, Side
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
    """Times the throughput of the fastest bare side with no more processes than are open."""
    over_batched: float | None
    """Times the throughput of request batching with as many replicas and requests open; None where
    it has none."""
    latency_over_bare: float
    """Times the latency of the faster bare side with one process; above 1 is slower."""
    latency_over_batched: float | None
    """As `over_batched`."""
    p50: float
    """Seconds."""
    p95: float
    """Seconds."""
    peak_rows: float | None
    """Most rows in one decoder forward, mean over the images."""
    shared_share: float | None
    """Share of decoder forwards that held rows of several images."""


@dataclass(frozen=True)
class Standings:
    """What was played, and the figures that come of it."""

    sides: Sequence[Side]
    rounds: Rounds

    def baseline(self, concurrency: int) -> Side:
        """The fastest bare side of those with no more processes than requests are open."""
        bare = [one for one in self.sides if one.kind is Kind.BARE and one.replicas <= concurrency]
        return max(bare, key=lambda side: median_throughput(self.rounds[side.name, side.replicas]))

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
        names = (*names, "p50 over batching's", "peak rows", "shared forwards")
        table, last = columns(title, names), ""
        for row in self.rows():
            if last and row.side != last:
                table.add_section()
            last = row.side
            table.add_row(
                row.side,
                str(row.concurrency),
                number(row.images_a_second),
                number(row.over_bare),
                number(row.over_batched),
                number(row.p50, ".3f"),
                number(row.p95, ".3f"),
                number(row.latency_over_batched),
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
            "rows": [asdict(row) for row in self.rows()],
            "raw": raw,
        }

    def _row(self, side: Side, concurrency: int, rounds: Sequence[Round]) -> Row:
        baseline, alone = self.baseline(concurrency), self.baseline(1)
        bare = self.rounds[baseline.name, baseline.replicas]
        batched = self._batched(side, concurrency)
        latencies = [latency for one in rounds for latency in one.latencies]
        served = [one for one in rounds if isinstance(one, ServedRound)]
        return Row(
            side=side.name,
            kind=side.kind.value,
            concurrency=concurrency,
            images_a_second=median_throughput(rounds),
            over_bare=throughput_ratio(rounds, bare),
            over_batched=throughput_ratio(rounds, batched) if batched else None,
            latency_over_bare=latency_ratio(rounds, self.rounds[alone.name, 1]),
            latency_over_batched=latency_ratio(rounds, batched) if batched else None,
            p50=median_latency(rounds),
            p95=percentile(latencies, 0.95),
            peak_rows=_mean([one.peak_rows for one in served]),
            shared_share=_mean([one.shared_share for one in served]),
        )

    def _batched(self, side: Side, concurrency: int) -> list[Round] | None:
        """Rounds of the request batching that a served side stands beside."""
        if side.kind is not Kind.SERVED:
            return None
        names = [
            one.name
            for one in self.sides
            if one.kind is Kind.BATCHED and one.replicas == side.replicas
        ]
        return self.rounds.get((names[0], concurrency)) if names else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
