"""Request batching at its best: at each concurrency the setting that is fastest in a trial."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.batched_app import Batching
from benchmarks.load import batched, window
from benchmarks.machine import cores
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask

BUILDER = "benchmarks.batched_app:build"
WAITS = (0.005, 0.05)
"""Seconds that a batch may wait for more, of those tried."""


def applications(setup: Setup) -> dict[str, dict[str, Any]]:
    """The pipelines as they come and compiled, with as many replicas as this system has decoders.

    The replicas share the cores.
    """
    arguments = {
        "model": setup.entry.name,
        "catalog": list(map(str, setup.folders)),
        "replicas": setup.decoders,
        "threads": max(1, cores() // setup.decoders),
    }
    return {
        Batching(1, 0.0, compiled).application: {**arguments, "compiled": compiled}
        for compiled in (False, True)
    }


def candidates(replicas: int, concurrency: int) -> list[Batching]:
    """What is tried: a replica's whole share of what is open in a batch, or half of it."""
    share = math.ceil(concurrency / replicas)
    return [
        Batching(size, wait)
        for size in sorted({share, math.ceil(share / 2)})
        for wait in (WAITS if size > 1 else (0.0,))
    ]


def best(
    setup: Setup, address: str, tasks: Sequence[ImageTask], concurrencies: Sequence[int], say: Say
) -> Mapping[int, Batching]:
    """The fastest of the candidates at each concurrency, each then tried compiled too."""
    found = {}
    for open_ in concurrencies:
        say(f"trying request batching, {open_} open")
        tried: dict[Batching, float] = {}

        def fastest(some: Sequence[Batching], open_: int = open_, tried: Any = tried) -> Batching:
            for one in some:
                tried[one] = _throughput(setup, address, one, tasks, open_)
            return max(tried, key=tried.__getitem__)

        first = fastest(candidates(setup.decoders, open_))
        found[open_] = fastest([replace(first, compiled=True)])
        say(", ".join(f"{one}: {rate:.2f} images/s" for one, rate in tried.items()))
    return found


def _throughput(
    setup: Setup, address: str, batching: Batching, tasks: Sequence[ImageTask], open_: int
) -> float:
    async def run() -> float:
        async with batched(address, batching.application, [batching.metadata()]) as ask:
            if batching.compiled:  # the first batch of a size may compile
                await asyncio.gather(*map(ask, tasks[: 2 * open_]))
            made = await window(ask, tasks, open_, 4.0 if setup.quick else 10.0)
            return made.images_a_second

    return asyncio.run(run())
