"""Sides that make the same images: all of them stand, one at a time is asked.

Every round lets each side take its turns, so that round k of one stands beside round k of another
and a machine that slows down slows them all.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import batched
from benchmarks.bare_processes import BareProcesses, bare_processes
from benchmarks.batched_app import Batching
from benchmarks.cluster import cluster
from benchmarks.figures import Round, latency, latency_ratio, throughput, throughput_ratio
from benchmarks.load import Ask, asked, window
from benchmarks.machine import cores
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask, groups
from kandinsky.wire import images

PAUSE = 0.3
"""Seconds between two turns: OpenMP's threads go on spinning for a moment after their work."""
BARE, BATCHED, SERVED = "bare", "request batching", "served"


@dataclass(frozen=True)
class Side:
    """One that makes images."""

    kind: str
    name: str
    asked: Callable[[int], AbstractAsyncContextManager[Ask]]
    """Of how many requests are open."""
    processes: int = 0
    """Of bare pipelines: as many requests are open as there are of them, whatever is asked for."""

    def round(self, tasks: Sequence[ImageTask], open_: int, seconds: float) -> Round:
        """Makes images for so long."""

        async def run() -> Round:
            async with self.asked(open_) as ask:
                return await window(ask, tasks, open_, seconds)

        return asyncio.run(run())

    def images(self, tasks: Sequence[ImageTask]) -> list[bytes]:
        """PNG files, all asked for at once, so that they share what can be shared."""

        async def run() -> list[bytes]:
            async with self.asked(len(tasks)) as ask:
                return [made.png for made in await asyncio.gather(*map(ask, tasks))]

        return asyncio.run(run())


Rounds = Mapping[tuple[str, int], Sequence[Round]]
"""By side's name and concurrency."""


@dataclass(frozen=True)
class Sides:
    """All that take part, and what is said of them."""

    all: Sequence[Side]
    bare: BareProcesses
    kept: Mapping[int, Batching]
    """The settings of request batching by concurrency."""
    runtime: Mapping[str, Any]
    """This system's runtime options by stage, as tuned."""

    def difference(self, tasks: Sequence[ImageTask]) -> dict[str, int]:
        """Levels, of 255, by which the servers' exact images differ from the bare ones at most."""
        wanted = [_pixels(self.bare.make(task)) for task in tasks]
        return {
            side.name: max(
                int(np.abs(_pixels(png) - pixels).max())
                for png, pixels in zip(side.images(tasks), wanted, strict=True)
            )
            for side in self.all
            if side.kind is not BARE and not side.name.endswith("balanced")
        }


@contextmanager
def sides(
    setup: Setup, tasks: Sequence[ImageTask], concurrencies: Sequence[int], say: Say
) -> Iterator[Sides]:
    """Bare processes, request batching and this system, until the block ends.

    Args:
        setup: the model and the replicas.
        tasks: with which settings are tried.
        concurrencies: at which request batching takes part.
        say: takes progress.
    """
    say("choosing this system's runtime options")
    runtime = _tuned(setup)
    with (
        bare_processes(setup.entry, cores()) as bare,
        cluster(batched.BUILDER, batched.applications(setup), setup, runtime) as addresses,
    ):
        proxy, gateway = addresses
        kept = batched.best(setup, proxy, tasks, concurrencies, say)

        def batched_at(open_: int) -> AbstractAsyncContextManager[Ask]:
            setting = kept[min(kept, key=lambda tried: abs(tried - open_))]
            return asked(proxy, setting.application, setting.metadata())

        found = [
            _bare(bare, *ways) for ways in _bare_ways(len(groups(tasks)) == 1 and not setup.eager)
        ]
        found.append(Side(BATCHED, f"{BATCHED}, {setup.decoders} replicas", batched_at))
        for preset in ("exact", "balanced"):
            name = f"{SERVED}, {setup.decoders} decoders, {preset}"
            ask = partial(asked, gateway, setup.entry.name, preset=preset)
            found.append(Side(SERVED, name, lambda open_, ask=ask: ask()))
        yield Sides(found, bare, kept, runtime.get(setup.entry.name, {}))


def _bare_ways(is_uniform: bool) -> list[tuple[int, int, bool]]:
    """Processes, threads of each, compiled or not: that takes minutes for each size and canvas."""
    ways = [(1, 1, False), (1, cores(), False), (cores(), 1, False)]
    return [*ways, (1, 1, True), (cores(), 1, True)] if is_uniform else ways


def _bare(bare: BareProcesses, processes: int, threads: int, compiled: bool) -> Side:
    name = f"{BARE}, {processes} x {threads} thread(s){', compiled' if compiled else ''}"
    return Side(BARE, name, lambda _: bare.asked(threads, compiled), processes)


def _tuned(setup: Setup) -> Mapping[str, Any]:
    """Runtime options by model and stage."""
    from services.local.tuning import Tuning

    if setup.eager:
        return {}
    if setup.runtime is not None:
        return Tuning.read(setup.runtime).arguments()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "runtime.yaml"
        words = ["tune", "--model", setup.entry.name, "--output", str(file), *setup.server_options]
        command = [sys.executable, "-m", "kandinsky", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Tuning.read(file).arguments()


@dataclass(frozen=True)
class Turn:
    """What a side is asked for once a round."""

    side: Side
    open: int
    tasks: Sequence[ImageTask]
    seconds: float


def play(turns: Sequence[Turn], rounds: int, say: Say) -> Rounds:
    """Every side's turns, round after round."""
    played: dict[tuple[str, int], list[Round]] = {}
    for number in range(rounds):
        for turn in turns:
            say(f"round {number + 1} of {rounds}: {turn.side.name}, {turn.open} open")
            time.sleep(PAUSE)
            found = turn.side.round(turn.tasks, turn.open, turn.seconds)
            played.setdefault((turn.side.name, turn.open), []).append(found)
    return played


def standings(found: Sequence[Side], rounds: Rounds) -> list[dict[str, Any]]:
    """A row a side and concurrency, with ratios to each baseline."""
    kinds = {side.name: side.kind for side in found}
    batching = next((side.name for side in found if side.kind is BATCHED), "")
    rows = []
    for side in found:
        for (name, open_), own in rounds.items():
            if name != side.name:
                continue
            # The fastest bare side with no more processes than requests are open.
            bare = max(
                (key for key in rounds if kinds[key[0]] is BARE and key[1] <= open_),
                key=lambda key: throughput(rounds[key]),
            )
            against = rounds.get((batching, open_)) if side.kind is SERVED else None
            rows.append(
                {
                    "side": name,
                    "open": open_,
                    "images/s": throughput(own),
                    "times bare": throughput_ratio(own, rounds[bare]),
                    "times batching": throughput_ratio(own, against) if against else None,
                    "p50, s": latency(own),
                    "p95, s": latency(own, 0.95),
                    "p50 over bare": latency_ratio(own, rounds[bare]) if open_ == 1 else None,
                    "p50 over batching": latency_ratio(own, against) if against else None,
                    "peak rows": _mean([each.peak_rows for each in own]),
                }
            )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    found = [one for one in values if one is not None]
    return sum(found) / len(found) if found else None


def _pixels(png: bytes) -> np.ndarray:
    return images.decode(png, "image").astype(int)
