"""Images a second with several requests open, beside both baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.batched import Baseline, baselines
from benchmarks.contest import Kind, Turn, bare_sides, difference, play, served_sides
from benchmarks.figures import median_throughput
from benchmarks.machine import idle_cores
from benchmarks.setup import Say, Setup
from benchmarks.standings import Standings
from benchmarks.workload import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCIES = (1, 2, 4, 8, 16)


def measure(setup: Setup, say: Say) -> "Throughput":
    """Every side makes the same images at each concurrency."""
    entry = setup.entry
    samples = {open_: plain(entry, max(8, open_)) for open_ in CONCURRENCIES}
    with (
        bare_sides(setup) as (bare, alone),
        baselines(setup, samples, say) as rivals,
        served_sides(setup, say) as served,
    ):
        say("warming up")
        servers = [*(rival.side for rival in rivals), *served]
        for side in alone:
            side.round(plain(entry, 2), 1)
        for side in servers:
            for concurrency in CONCURRENCIES:
                side.round(plain(entry, concurrency), concurrency)
        differs = {side.name: difference(bare, side, plain(entry, 4)) for side in servers}
        idle = idle_cores()
        sides = [*alone, *servers]
        rounds = play(sides, _turns(setup), 2 if setup.quick else 3, say)
    return Throughput(Standings(sides, rounds), rivals, differs, idle)


def _turns(setup: Setup) -> Sequence[Turn]:
    least, deep = (4, 1) if setup.quick else (12, 2)
    return [
        Turn(
            concurrency,
            plain(setup.entry, max(least, deep * concurrency)),
            bare=plain(setup.entry, 4 if setup.quick else 12) if concurrency == 1 else None,
        )
        for concurrency in CONCURRENCIES
    ]


@dataclass(frozen=True)
class Throughput:
    """Images a second by concurrency."""

    standings: Standings
    rivals: Sequence[Baseline]
    """Request batching, with the settings that were kept."""
    differences: dict[str, int]
    """By side: levels, of 255, from the bare images at most."""
    idle: float
    """Cores that all servers together use while nothing is asked."""

    def table(self) -> Table:
        """A row a side and concurrency."""
        return self.standings.table("Throughput")

    def note(self) -> str:
        """How it was measured."""
        differs = ", ".join(f"{name} {levels}" for name, levels in self.differences.items())
        kept = ". ".join(rival.sentence() for rival in self.rivals)
        return (
            "Same weights, dtype, steps, guidance, PNG, allocator setting and autoencoder layout "
            "on every side; throughput and ratios are medians over interleaved rounds. Times bare: "
            "over the fastest of the bare sides with no more processes than requests are open. "
            "Times batching: over the same pipelines behind Ray Serve's gRPC proxy and "
            "@serve.batch, with as many replicas as there are decoders and as many requests open, "
            f"each time at the setting that was the fastest in a trial. Settings kept: {kept}. "
            "Peak rows: the most rows in one decoder forward, mean over the images; a guided image "
            f"has two. Levels of 255 from the bare images, at most: {differs}. All servers idle "
            f"together use {self.idle:.2f} cores."
        )

    def content(self) -> dict[str, Any]:
        """The rows and their rounds."""
        return self.standings.content() | {
            "request_batching": [rival.sentence() for rival in self.rivals],
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
        baseline = self.standings.baseline(CONCURRENCIES[-1])
        level = median_throughput(self.standings.rounds[baseline.name, baseline.replicas])
        axes.axhline(level, linestyle="--", color="gray", label=baseline.name)
        axes.set(xlabel="requests open", ylabel="images per second", title="Throughput")
        axes.set_xscale("log", base=2)
        axes.set_xticks(CONCURRENCIES, [str(each) for each in CONCURRENCIES])
        axes.set_ylim(bottom=0)
        axes.legend()
