"""What killed processes cost: no request, no image, a few steps."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from benchmarks import kills
from benchmarks.messages import to_request
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask, mixed
from kandinsky import AsyncClient, Generated, KandinskyError
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import CanvasKind
from kandinsky.client import StageStats
from services.engine.limits import EngineLimits
from services.local.child import serving

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCY = 32
REPLICAS = 2
KILLS = 10
SEED = 4


@dataclass(frozen=True)
class Made:
    """One finished image."""

    pixels: np.ndarray
    stats: dict[str, StageStats]
    """By stage."""
    has_encode_pass: bool
    """Whether the decoder's first pass encodes an image; a move takes it again."""


@dataclass(frozen=True)
class Pass:
    """All images made once."""

    made: dict[int, Made]
    failures: list[str]
    seconds: float


def measure(setup: Setup, say: Say) -> "Recovery":
    """The same images undisturbed and while processes are killed."""
    options = ["--replicas-decoder", str(REPLICAS), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        return asyncio.run(_measure(setup, address, say))


async def _measure(setup: Setup, address: str, say: Say) -> "Recovery":
    tasks = mixed(2 * CONCURRENCY if setup.quick else 4 * CONCURRENCY)
    count = len(kills.KINDS) if setup.quick else KILLS
    async with AsyncClient(address) as client:
        say("warming up")
        await _pass(client, setup.entry, tasks[:CONCURRENCY])
        say("undisturbed")
        twins = await _pass(client, setup.entry, tasks)
        killing = asyncio.create_task(kills.kill(setup.entry, kills.KINDS, count, SEED, say))
        passes: list[Pass] = []
        while not killing.done():
            say(f"pass {len(passes) + 1} with kills")
            passes.append(await _pass(client, setup.entry, tasks))
        victims = await killing
    return Recovery(twins, passes, victims, EngineLimits().snapshot_every)


async def _pass(client: AsyncClient, entry: CatalogEntry, tasks: Sequence[ImageTask]) -> Pass:
    waiting = iter(enumerate(tasks))
    made: dict[int, Made] = {}
    failures: list[str] = []

    async def worker() -> None:
        for index, task in waiting:
            try:
                made[index] = await _make(client, entry, task)
            except KandinskyError as error:
                failures.append(f"{error.reason.value}: {error.message}")

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENCY):
            workers.create_task(worker())
    return Pass(made, failures, time.perf_counter() - begun)


async def _make(client: AsyncClient, entry: CatalogEntry, task: ImageTask) -> Made:
    request = to_request(task, entry.name)
    request.events.progress_every = 1  # so that every step that is taken again is counted
    stream = client.stream(request)
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, Generated):
                encodes = task.canvas is not CanvasKind.NOISE
                return Made(event.array.astype(int), event.stats, encodes)
    raise RuntimeError("a stream without an image")


@dataclass(frozen=True)
class Recovery:
    """What the kills cost."""

    twins: Pass
    passes: list[Pass]
    kills: Counter[str]
    """By kind of process."""
    snapshot_every: int

    @property
    def made(self) -> list[tuple[int, Made]]:
        """The images of all passes with kills, each with its place in the list."""
        return [item for each in self.passes for item in each.made.items()]

    @property
    def moved(self) -> list[StageStats]:
        """Of the jobs that went on elsewhere."""
        return [one for _, made in self.made for one in made.stats.values() if one.resumes]

    def figures(self) -> dict[str, Any]:
        """All of them by name."""
        moved = self.moved
        differences = [
            int(np.abs(made.pixels - self.twins.made[index].pixels).max())
            for index, made in self.made
        ]
        return {
            **{f"kills, {kind}": self.kills[kind] for kind in kills.KINDS},
            "images": len(differences),
            "failed": sum(len(each.failures) for each in self.passes),
            "largest difference of 255": max(differences, default=0),
            "images that moved": sum(
                any(one.resumes for one in made.stats.values()) for _, made in self.made
            ),
            "moves": sum(one.resumes for one in moved),
            "steps redone": sum(one.steps_redone for one in moved),
            "most steps redone in one move": max(
                (one.most_steps_redone for one in moved), default=0
            ),
            "jobs beyond the bound": sum(self._is_beyond(made) for _, made in self.made),
            "steps between snapshots": self.snapshot_every,
            "steps in all": sum(
                one.forwards for _, made in self.made for one in made.stats.values()
            ),
            "time of undisturbed": _ratio(
                sum(each.seconds for each in self.passes) / len(self.passes), self.twins.seconds
            ),
        }

    def _is_beyond(self, made: Made) -> bool:
        """Whether any one move took more steps again than it may."""
        return any(
            one.most_steps_redone
            > self.snapshot_every + (stage == "decoder" and made.has_encode_pass)
            for stage, one in made.stats.items()
        )

    def table(self) -> Table:
        """A figure a row."""
        table = columns("Recovery", ("figure", "value"))
        for name, value in self.figures().items():
            table.add_row(name, number(value, "d" if isinstance(value, int) else ".2f"))
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            f"{CONCURRENCY} requests open, of three canvases, two sizes and 10 to 50 steps, on "
            f"{REPLICAS} decoder replicas and one of the others. Every {kills.PAUSE[0]:g} to "
            f"{kills.PAUSE[1]:g} s a process gets SIGKILL: replicas of each stage, Serve's proxy "
            "and its controller, in rounds, each in an order of its own, drawn from those that "
            "live, also when it is the last one. Every image is compared with its twin of an "
            "undisturbed pass of the same "
            "run. Steps redone are counted by the gateway: those that were reported to it and that "
            "were taken again. The bound is held for each job and move: the steps between two "
            "snapshots, and the pass that encodes an image where there is one. Time: of the "
            "passes with kills, over the undisturbed one; a new process has to load first."
        )

    def content(self) -> dict[str, Any]:
        """The figures, and what moved."""
        return {
            "rows": [self.figures()],
            "moved": [asdict(one) for one in self.moved],
            "failures": [reason for each in self.passes for reason in each.failures],
        }

    def plot(self, axes: "Axes") -> None:
        """How many steps moved jobs took again."""
        redone = [one.most_steps_redone for one in self.moved]
        most = max([*redone, self.snapshot_every])
        axes.hist(redone, bins=[place - 0.5 for place in range(most + 2)], color="steelblue")
        axes.axvline(self.snapshot_every, linestyle="--", color="gray", label="snapshots every")
        axes.set(
            xlabel="most steps redone in one move",
            ylabel="jobs",
            title=f"{self.kills.total()} killed processes, {len(self.moved)} jobs moved",
        )
        axes.legend()


def _ratio(value: float, base: float) -> float:
    return value / base if base else 0.0
