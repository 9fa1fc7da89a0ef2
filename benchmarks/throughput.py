"""Pictures a second with several requests open, beside both baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.bare import BarePipelines
from benchmarks.batched import batched, best_batching
from benchmarks.contest import Kind, Turn, bare_sides, difference, play, served_sides
from benchmarks.figures import median_throughput
from benchmarks.machine import idle_cores
from benchmarks.setup import Say, Setup
from benchmarks.standings import Standings
from benchmarks.workload import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCIES = (1, 2, 4, 8, 16, 32)


def measure(setup: Setup, say: Say) -> "Throughput":
    """Every side makes the same pictures at each concurrency; bare ones in sequence."""
    entry, most = setup.entry, CONCURRENCIES[-1]
    pipelines = BarePipelines(entry)
    batching = best_batching(setup, plain(entry, most), most, say)
    with served_sides(setup, say) as served, batched(setup, batching) as rival:
        say("warming up")
        servers = [rival, *served]
        sides = [*bare_sides(setup, pipelines), *servers]
        for side in sides:
            for concurrency in (1,) if side.kind is Kind.BARE else CONCURRENCIES:
                side.round(plain(entry, concurrency), concurrency)
        differs = {side.name: difference(pipelines, side, plain(entry, 4)) for side in servers}
        idle = idle_cores()
        rounds = play(sides, _turns(setup), 2 if setup.quick else 3, say)
    return Throughput(Standings(sides, rounds), str(batching), differs, idle)


def _turns(setup: Setup) -> Sequence[Turn]:
    least, deep = (4, 1) if setup.quick else (12, 2)
    return [
        Turn(
            concurrency,
            plain(setup.entry, max(least, deep * concurrency)),
            bare=plain(setup.entry, 4 if setup.quick else 8) if concurrency == 1 else None,
        )
        for concurrency in CONCURRENCIES
    ]


@dataclass(frozen=True)
class Throughput:
    """Pictures a second by concurrency."""

    standings: Standings
    batching: str
    """The request batching that was kept."""
    differences: dict[str, int]
    """By side: levels, of 255, from the bare pictures at most."""
    idle: float
    """Cores that all servers together use while nothing is asked."""

    def table(self) -> Table:
        """A row a side and concurrency."""
        return self.standings.table("Throughput")

    def note(self) -> str:
        """How it was measured."""
        differs = ", ".join(f"{name} {levels}" for name, levels in self.differences.items())
        return (
            "Same weights, dtype, steps, guidance and PNG on every side; throughput and ratios are "
            "medians over interleaved rounds. Request batching: the same pipelines in one replica "
            f"behind Ray Serve's gRPC proxy, @serve.batch, {self.batching}, the fastest of those "
            "tried; its ratio is at the same concurrency. Peak rows: the most rows in one decoder "
            "forward, mean over the pictures; a guided picture has two. Levels of 255 from the "
            f"bare pictures: {differs}. All servers idle together use {self.idle:.2f} cores."
        )

    def content(self) -> dict[str, Any]:
        """The rows and their rounds."""
        return self.standings.content() | {
            "request_batching": self.batching,
            "largest_difference_of_255": self.differences,
            "idle_cores": self.idle,
        }

    def plot(self, axes: "Axes") -> None:
        """Throughput over open requests."""
        rows = self.standings.rows()
        for side in self.standings.sides:
            mine = [row for row in rows if row.side == side.name]
            if side.kind is not Kind.BARE:
                open_ = [row.concurrency for row in mine]
                axes.plot(open_, [row.images_a_second for row in mine], "o-", label=side.name)
        baseline = self.standings.baseline.name
        level = median_throughput(self.standings.rounds[baseline, 1])
        axes.axhline(level, linestyle="--", color="gray", label=f"{baseline}, in sequence")
        axes.set(xlabel="requests open", ylabel="images per second", title="Throughput")
        axes.set_xscale("log", base=2)
        axes.set_xticks(CONCURRENCIES, [str(each) for each in CONCURRENCIES])
        axes.set_ylim(bottom=0)
        axes.legend()
