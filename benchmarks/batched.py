"""Request batching at its best: at each concurrency the setting that is fastest in a trial."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.batched_app import Batching
from benchmarks.load import asked, window
from benchmarks.machine import cores
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask

BUILDER = "benchmarks.batched_app:build"
WAITS = (0.05, 0.005)
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
        for compiled in ((False,) if setup.eager else (False, True))
    }


def sizes(replicas: int, concurrency: int) -> list[int]:
    """Of a batch, as tried: a replica's whole share of what is open, or half of it."""
    share = math.ceil(concurrency / replicas)
    return sorted({share, math.ceil(share / 2)})


def best(
    setup: Setup, address: str, tasks: Sequence[ImageTask], concurrencies: Sequence[int], say: Say
) -> Mapping[int, Batching]:
    """The fastest setting at each concurrency: its size, then its wait, then compiled or not."""
    found = {}
    for open_ in concurrencies:
        say(f"trying request batching, {open_} open")
        tried: dict[Batching, float] = {}
        for size in sizes(setup.decoders, open_):
            one = Batching(size, WAITS[0] if size > 1 else 0.0)
            tried[one] = _throughput(setup, address, one, tasks, open_)
        for change in ({"wait_seconds": WAITS[1]}, {"compiled": not setup.eager}):
            one = replace(max(tried, key=tried.__getitem__), **change)
            if (one.max_batch_size > 1 or one.compiled) and one not in tried:
                tried[one] = _throughput(setup, address, one, tasks, open_)
        found[open_] = max(tried, key=tried.__getitem__)
        say(", ".join(f"{one}: {rate:.2f} images/s" for one, rate in tried.items()))
    return found


def _throughput(
    setup: Setup, address: str, batching: Batching, tasks: Sequence[ImageTask], open_: int
) -> float:
    async def run() -> float:
        async with asked(address, batching.application, batching.metadata()) as ask:
            if batching.compiled:  # the first batch of a size may compile
                await asyncio.gather(*map(ask, tasks[: 2 * open_]))
            made = await window(ask, tasks, open_, 3.0 if setup.quick else 6.0)
            return made.images_a_second

    return asyncio.run(run())
