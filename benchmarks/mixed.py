"""Requests of different flow, size, steps and guidance at the same time."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.bare import BarePipelines
from benchmarks.batched import batched, best_batching
from benchmarks.contest import Turn, bare_sides, difference, play, served_sides
from benchmarks.setup import Say, Setup
from benchmarks.standings import Standings
from benchmarks.workload import MIXED_GUIDANCE, MIXED_SIZES, MIXED_STEPS, Picture, groups, mixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCY = 16
REQUESTS = 48
QUICK_REQUESTS = 16
TRIAL_REQUESTS = 24
"""Of them, those on which settings of request batching are tried."""
WARM_UP = 6


def measure(setup: Setup, say: Say) -> "Mixed":
    """Every side makes the same list; bare ones in sequence."""
    pipelines = BarePipelines(setup.entry)
    pictures = mixed(QUICK_REQUESTS if setup.quick else REQUESTS)
    batching = best_batching(setup, pictures[:TRIAL_REQUESTS], CONCURRENCY, say)
    with served_sides(setup, say) as served, batched(setup, batching) as rival:
        say("warming up")
        servers = [rival, *served]
        sides = [*bare_sides(setup, pipelines), *servers]
        for side in sides:
            side.round(pictures[:WARM_UP], WARM_UP)
        differs = {side.name: difference(pipelines, side, pictures[:WARM_UP]) for side in servers}
        turns = [Turn(CONCURRENCY, pictures, bare=pictures)]
        rounds = play(sides, turns, 1 if setup.quick else 3, say)
    return Mixed(Standings(sides, rounds), pictures, str(batching), differs)


@dataclass(frozen=True)
class Mixed:
    """Throughput and latency of the mixed workload."""

    standings: Standings
    pictures: list[Picture]
    batching: str
    """The request batching that was kept."""
    differences: dict[str, int]
    """By side: levels, of 255, from the bare pictures at most."""

    def table(self) -> Table:
        """A row a side."""
        return self.standings.table(f"Mixed requests, {CONCURRENCY} open")

    def note(self) -> str:
        """What was asked for and how it was measured."""
        flows = Counter(picture.flow.value for picture in self.pictures)
        counted = ", ".join(f"{count} {flow}" for flow, count in flows.items())
        differs = ", ".join(f"{name} {levels}" for name, levels in self.differences.items())
        sizes, guidance = (
            " or ".join(f"{one:g}" for one in each) for each in (MIXED_SIZES, MIXED_GUIDANCE)
        )
        return (
            f"{len(self.pictures)} requests, the same list on every side: {counted}; "
            f"{sizes} pixels, {MIXED_STEPS[0]} to {MIXED_STEPS[-1]} steps, guidance {guidance}; "
            f"of the whole list {len(groups(self.pictures))} groups have equal parameters. Request "
            f"batching ({self.batching}, the fastest of those tried, behind Ray Serve's gRPC "
            "proxy) calls the prior once for a batch and the decoder once for a group; inpainted "
            "pictures go alone, since the reference blends a batch of them with its first. The "
            "bare sides' latency is that of one picture, without waiting. Levels of 255 from the "
            f"bare pictures: {differs}."
        )

    def content(self) -> dict[str, Any]:
        """The rows and their rounds."""
        return self.standings.content() | {
            "request_batching": self.batching,
            "largest_difference_of_255": self.differences,
        }

    def plot(self, axes: "Axes") -> None:
        """A bar a side."""
        rows = self.standings.rows()[::-1]
        bars = axes.barh([row.side for row in rows], [row.images_a_second for row in rows])
        axes.bar_label(bars, [f"p95 {row.p95:.1f} s" for row in rows], padding=3)
        axes.margins(x=0.2)
        axes.set(xlabel="images per second", title=f"Mixed requests, {CONCURRENCY} open")
