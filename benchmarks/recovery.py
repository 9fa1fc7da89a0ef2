"""What killed replicas cost: no request, no picture, a few steps."""

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from rich.table import Table

from benchmarks.messages import to_request
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import Picture, mixed
from kandinsky import AsyncClient, Generated, KandinskyError
from kandinsky.catalog.catalog import CatalogEntry, Stage
from kandinsky.cli.child import serving
from kandinsky.client import StageStats
from services.engine.limits import EngineLimits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCY = 32
REPLICAS = 2
PAUSE = (1.0, 6.0)
"""Seconds between two kills, drawn from this range."""
SEED = 4


@dataclass(frozen=True)
class Made:
    """One finished picture."""

    pixels: np.ndarray
    stats: StageStats


@dataclass(frozen=True)
class Pass:
    """All pictures made once."""

    made: dict[int, Made]
    failures: list[str]
    seconds: float


def measure(setup: Setup, say: Say) -> "Recovery":
    """The same pictures undisturbed and while decoder replicas are killed."""
    options = ["--replicas-decoder", str(REPLICAS), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        return asyncio.run(_measure(setup, address, say))


async def _measure(setup: Setup, address: str, say: Say) -> "Recovery":
    pictures = mixed(2 * CONCURRENCY if setup.quick else 4 * CONCURRENCY)
    kills = 3 if setup.quick else 10
    async with AsyncClient(address) as client:
        say("warming up")
        await _pass(client, setup.entry, pictures[:CONCURRENCY])
        say("undisturbed")
        twins = await _pass(client, setup.entry, pictures)
        killing = asyncio.create_task(_kill(setup.entry, kills, say))
        passes: list[Pass] = []
        while not killing.done():
            say(f"pass {len(passes) + 1} with kills")
            passes.append(await _pass(client, setup.entry, pictures))
        victims = await killing
    return Recovery(twins, passes, victims, EngineLimits().checkpoint_every)


async def _kill(entry: CatalogEntry, kills: int, say: Say) -> int:
    """Kills replicas at random moments, each of them drawn from those that live; how many."""
    draw, killed = random.Random(SEED), 0
    while killed < kills:
        await asyncio.sleep(draw.uniform(*PAUSE))
        living = await asyncio.to_thread(_replicas, entry)
        if living:
            victim = draw.choice(living)
            victim.send_signal(signal.SIGKILL)
            killed += 1
            say(f"killed {victim.pid}, one of {len(living)}")
    return killed


def _replicas(entry: CatalogEntry) -> list[psutil.Process]:
    """The decoder's, among this process's descendants."""
    name = f"ServeReplica:{entry.application(Stage.DECODER)}"
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def _pass(client: AsyncClient, entry: CatalogEntry, pictures: Sequence[Picture]) -> Pass:
    waiting = iter(enumerate(pictures))
    made: dict[int, Made] = {}
    failures: list[str] = []

    async def worker() -> None:
        for index, picture in waiting:
            try:
                made[index] = await _make(client, entry, picture)
            except KandinskyError as error:
                failures.append(f"{error.reason.value}: {error.message}")

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENCY):
            workers.create_task(worker())
    return Pass(made, failures, time.perf_counter() - begun)


async def _make(client: AsyncClient, entry: CatalogEntry, picture: Picture) -> Made:
    request = to_request(picture, entry.name)
    request.settings.progress_every = 1  # so that every step that is taken again is counted
    stream = client.stream(request)
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, Generated):
                return Made(event.array.astype(int), event.stats["decoder"])
    raise RuntimeError("a stream without a picture")


@dataclass(frozen=True)
class Recovery:
    """What the kills cost."""

    twins: Pass
    passes: list[Pass]
    kills: int
    checkpoint_every: int

    @property
    def moved(self) -> list[StageStats]:
        """Of the pictures that went on elsewhere."""
        made = [one for each in self.passes for one in each.made.values()]
        return [one.stats for one in made if one.stats.resumes]

    def figures(self) -> dict[str, Any]:
        """All of them by name."""
        moved = self.moved
        differences = [
            int(np.abs(one.pixels - self.twins.made[index].pixels).max())
            for each in self.passes
            for index, one in each.made.items()
        ]
        return {
            "kills": self.kills,
            "pictures": len(differences),
            "failed": sum(len(each.failures) for each in self.passes),
            "largest difference of 255": max(differences, default=0),
            "pictures that moved": len(moved),
            "moves": sum(one.resumes for one in moved),
            "steps redone": sum(one.steps_redone for one in moved),
            "steps redone a move": _ratio(
                sum(one.steps_redone for one in moved), sum(one.resumes for one in moved)
            ),
            "most steps redone a move": max(
                (one.steps_redone / one.resumes for one in moved), default=0.0
            ),
            "steps between checkpoints": self.checkpoint_every,
            "steps in all": sum(
                one.stats.forwards for each in self.passes for one in each.made.values()
            ),
            "time of undisturbed": _ratio(
                sum(each.seconds for each in self.passes) / len(self.passes), self.twins.seconds
            ),
        }

    def table(self) -> Table:
        """A figure a row."""
        table = columns("Recovery", ("figure", "value"))
        for name, value in self.figures().items():
            table.add_row(name, number(value, "d" if isinstance(value, int) else ".2f"))
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            f"{CONCURRENCY} requests open, of three flows, two sizes and 10 to 50 steps, on "
            f"{REPLICAS} decoder replicas; a replica drawn from those that live is killed with "
            f"SIGKILL every {PAUSE[0]:g} to {PAUSE[1]:g} s, also when it is the last one. Every "
            "picture is compared with its twin of an undisturbed pass of the same run. Steps "
            "redone are counted by the gateway: those that it had been told of and that were "
            "taken again, passes that encode a picture included. Time: of the passes with kills, "
            "over the undisturbed one; a new replica has to load before it helps."
        )

    def content(self) -> dict[str, Any]:
        """The figures, and what moved."""
        return {
            "rows": [self.figures()],
            "moved": [asdict(one) for one in self.moved],
            "failures": [reason for each in self.passes for reason in each.failures],
        }

    def plot(self, axes: "Axes") -> None:
        """How many steps a moved picture took again."""
        redone = [round(one.steps_redone / one.resumes) for one in self.moved]
        most = max([*redone, self.checkpoint_every])
        axes.hist(redone, bins=[place - 0.5 for place in range(most + 2)], color="steelblue")
        axes.axvline(self.checkpoint_every, linestyle="--", color="gray", label="checkpoints every")
        axes.set(
            xlabel="steps redone a move",
            ylabel="pictures",
            title=f"{self.kills} killed replicas, {len(self.moved)} pictures moved",
        )
        axes.legend()


def _ratio(value: float, base: float) -> float:
    return value / base if base else 0.0
