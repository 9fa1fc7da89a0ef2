"""What killed processes cost: no request, no image, a few steps."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import kills
from benchmarks.report import Report, figures
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask, mixed, to_request
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
SNAPSHOT_EVERY = EngineLimits().snapshot_every


@dataclass(frozen=True)
class Made:
    """One finished image."""

    pixels: np.ndarray
    stats: dict[str, StageStats]
    """By stage."""
    has_encode_pass: bool
    """Whether the decoder's first pass encodes an image; a move takes it again."""

    @property
    def is_beyond(self) -> bool:
        """Whether any one move took more steps again than it may."""
        return any(
            one.most_steps_redone > SNAPSHOT_EVERY + (stage == "decoder" and self.has_encode_pass)
            for stage, one in self.stats.items()
        )


@dataclass(frozen=True)
class Pass:
    """All images made once."""

    made: dict[int, Made]
    failures: list[str]
    seconds: float


def measure(setup: Setup, say: Say) -> Report:
    """The same images undisturbed and while processes are killed."""
    options = ["--replicas-decoder", str(REPLICAS), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        killed, twins, passes = asyncio.run(_measure(setup, address, say))
    made = [item for each in passes for item in each.made.items()]
    stats = [one for _, image in made for one in image.stats.values()]
    moved = [one for one in stats if one.resumes]
    failures = [reason for each in passes for reason in each.failures]
    seconds = sum(each.seconds for each in passes) / len(passes)
    found = {
        **{f"kills, {kind}": killed[kind] for kind in kills.KINDS},
        "images": len(made),
        "failed": len(failures),
        "largest difference of 255": max(
            int(np.abs(image.pixels - twins.made[index].pixels).max()) for index, image in made
        ),
        "images that moved": sum(
            any(one.resumes for one in image.stats.values()) for _, image in made
        ),
        "moves": sum(one.resumes for one in moved),
        "steps redone": sum(one.steps_redone for one in moved),
        "most steps redone in one move": max((one.most_steps_redone for one in moved), default=0),
        "jobs beyond the bound": sum(image.is_beyond for _, image in made),
        "steps between snapshots": SNAPSHOT_EVERY,
        "steps in all": sum(one.forwards for one in stats),
        "time of undisturbed": seconds / twins.seconds,
    }

    def plot(axes: "Axes") -> None:
        redone = [one.most_steps_redone for one in moved]
        axes.hist(redone, bins=[place - 0.5 for place in range(SNAPSHOT_EVERY + 3)])
        axes.axvline(SNAPSHOT_EVERY, linestyle="--", color="gray")
        axes.set(xlabel="most steps redone in one move", ylabel="jobs")

    return Report(
        title=f"{killed.total()} killed processes, {len(moved)} jobs moved",
        rows=figures(found),
        note=(
            f"{CONCURRENCY} requests open, of three canvases, two sizes and 10 to 50 steps, on "
            f"{REPLICAS} decoder replicas and one of the others. Every {kills.PAUSE[0]:g} to "
            f"{kills.PAUSE[1]:g} s a process gets SIGKILL: replicas of each stage, Serve's proxy "
            "and its controller, in rounds, each in an order of its own, drawn from those that "
            "live, also when it is the last one. Every image is compared with its twin of an "
            "undisturbed pass of the same run. Steps redone are counted by the gateway: those that "
            "were reported to it and that were taken again. The bound is held for each job and "
            "move: the steps between two snapshots, and the pass that encodes an image where there "
            "is one. Time: of the passes with kills, over the undisturbed one; a new process has "
            "to load first."
        ),
        plot=plot,
        raw={"moved": [asdict(one) for one in moved], "failures": failures},
    )


async def _measure(setup: Setup, address: str, say: Say) -> tuple[Any, Pass, list[Pass]]:
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
        return await killing, twins, passes


async def _pass(client: AsyncClient, entry: CatalogEntry, tasks: Sequence[ImageTask]) -> Pass:
    waiting = iter(enumerate(tasks))
    made: dict[int, Made] = {}
    failures: list[str] = []

    async def worker() -> None:
        for index, task in waiting:
            # Every step is reported, so that every step that is taken again is counted.
            stream = client.stream(to_request(task, entry.name, progress_every=1))
            try:
                [image] = [event async for event in stream if isinstance(event, Generated)]
            except KandinskyError as error:
                failures.append(f"{error.reason.value}: {error.message}")
                continue
            encodes = task.canvas is not CanvasKind.NOISE
            made[index] = Made(image.array.astype(int), image.stats, encodes)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENCY):
            workers.create_task(worker())
    return Pass(made, failures, time.perf_counter() - begun)
