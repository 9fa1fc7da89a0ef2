"""What gateway and stages add to the latency of one image at a time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.contest import Turn, bare_sides, difference, play, served_sides
from benchmarks.report import columns
from benchmarks.setup import Say, Setup
from benchmarks.standings import Standings
from benchmarks.workload import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def measure(setup: Setup, say: Say) -> "Overhead":
    """Every side makes the same images, one at a time."""
    tasks = plain(setup.entry, 6 if setup.quick else 12)
    with bare_sides(setup) as (bare, alone), served_sides(setup, say) as served:
        say("warming up")
        sides = [*(side for side in alone if side.replicas == 1), *served]
        for side in sides:
            side.round(tasks[:2], 1)
        differs = max(difference(bare, side, tasks[:4]) for side in served)
        turns = [Turn(1, tasks, bare=tasks)]
        rounds = play(sides, turns, 2 if setup.quick else 3, say)
    return Overhead(Standings(sides, rounds), differs)


@dataclass(frozen=True)
class Overhead:
    """Latency of one request at a time."""

    standings: Standings
    difference: int

    def table(self) -> Table:
        """A row a side."""
        table = columns(
            "Latency, one request at a time", ("side", "p50, s", "p95, s", "times the baseline")
        )
        baseline = self.standings.baseline(1).name
        for row in self.standings.rows():
            ratio = "baseline" if row.side == baseline else f"{row.latency_over_bare:.2f}"
            table.add_row(row.side, f"{row.p50:.3f}", f"{row.p95:.3f}", ratio)
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            "p50 is over all images; ratios are medians over interleaved rounds. Served and bare "
            f"images differ by {self.difference} of 255."
        )

    def content(self) -> dict[str, Any]:
        """The rows and their rounds."""
        return self.standings.content() | {"largest_difference_of_255": self.difference}

    def plot(self, axes: "Axes") -> None:
        """A bar a side."""
        rows = self.standings.rows()[::-1]
        axes.barh([row.side for row in rows], [row.p50 for row in rows], color="steelblue")
        axes.set(xlabel="seconds an image, median", title="Latency, one request at a time")
