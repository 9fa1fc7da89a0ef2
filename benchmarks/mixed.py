"""Requests of different canvas, size, steps and guidance at the same time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.batched import Baseline, baselines
from benchmarks.contest import Turn, bare_sides, difference, play, served_sides
from benchmarks.setup import Say, Setup
from benchmarks.standings import Standings
from benchmarks.workload import MIXED_GUIDANCE, MIXED_SIZES, MIXED_STEPS, ImageTask, groups, mixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCY = 16
REQUESTS = 48
QUICK_REQUESTS = 16
TRIAL_REQUESTS = 16
"""Of them, those on which settings of request batching are tried."""
WARM_UP = 6


def measure(setup: Setup, say: Say) -> "Mixed":
    """Every side makes the same list."""
    tasks = mixed(QUICK_REQUESTS if setup.quick else REQUESTS)
    samples = {CONCURRENCY: tasks[:TRIAL_REQUESTS]}
    with (
        bare_sides(setup) as (bare, alone),
        baselines(setup, samples, say) as rivals,
        served_sides(setup, say) as served,
    ):
        say("warming up")
        servers = [*(rival.side for rival in rivals), *served]
        sides = [*alone, *servers]
        for side in sides:
            side.round(tasks[:WARM_UP], WARM_UP)
        differs = {side.name: difference(bare, side, tasks[:WARM_UP]) for side in servers}
        turns = [Turn(CONCURRENCY, tasks, bare=tasks)]
        rounds = play(sides, turns, 1 if setup.quick else 2, say)
    return Mixed(Standings(sides, rounds), tasks, rivals, differs)


@dataclass(frozen=True)
class Mixed:
    """Throughput and latency of the mixed workload."""

    standings: Standings
    tasks: list[ImageTask]
    rivals: Sequence[Baseline]
    """Request batching, with the setting that was kept."""
    differences: dict[str, int]
    """By side: levels, of 255, from the bare images at most."""

    def table(self) -> Table:
        """A row a side."""
        return self.standings.table(f"Mixed requests, {CONCURRENCY} open")

    def note(self) -> str:
        """What was asked for and how it was measured."""
        flows = Counter(task.flow for task in self.tasks)
        counted = ", ".join(f"{count} {flow}" for flow, count in flows.items())
        differs = ", ".join(f"{name} {levels}" for name, levels in self.differences.items())
        kept = ". ".join(rival.sentence() for rival in self.rivals)
        sizes, guidance = (
            " or ".join(f"{one:g}" for one in each) for each in (MIXED_SIZES, MIXED_GUIDANCE)
        )
        return (
            f"{len(self.tasks)} requests, the same list on every side: {counted}; "
            f"{sizes} pixels, {MIXED_STEPS[0]} to {MIXED_STEPS[-1]} steps, guidance {guidance}; "
            f"of the whole list {len(groups(self.tasks))} groups have equal parameters. Request "
            "batching (behind Ray Serve's gRPC proxy, as many replicas as there are decoders, at "
            "the setting that was the fastest in a trial) calls the prior once for a batch and the "
            "decoder once for a group; inpainted images go alone, since the reference blends a "
            "batch of them with its first. The bare sides have one request open a process, and "
            f"their latency is without waiting. Settings kept: {kept}. Levels of 255 from the bare "
            f"images, at most: {differs}."
        )

    def content(self) -> dict[str, Any]:
        """The rows and their rounds."""
        return self.standings.content() | {
            "request_batching": [rival.sentence() for rival in self.rivals],
            "largest_difference_of_255": self.differences,
        }

    def plot(self, axes: "Axes") -> None:
        """A bar a side."""
        rows = self.standings.rows()[::-1]
        bars = axes.barh([row.side for row in rows], [row.images_a_second for row in rows])
        axes.bar_label(bars, [f"p95 {row.p95:.1f} s" for row in rows], padding=3)
        axes.margins(x=0.2)
        axes.set(xlabel="images per second", title=f"Mixed requests, {CONCURRENCY} open")
