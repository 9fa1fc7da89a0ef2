"""The measurement: every side in turn, round after round, at each size and concurrency."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from benchmarks.figures import Round
from benchmarks.full_size.accelerator import synchronize
from benchmarks.full_size.bare_side import BareSide
from benchmarks.full_size.contestants import Contestants, Entry, Failure, attempt
from benchmarks.full_size.networks import Networks
from benchmarks.full_size.plan import Plan
from benchmarks.full_size.side import Made

WARM_UPS = 3
"""A captured graph is compiled, recorded and replayed first; each takes a call."""


@dataclass
class Measured:
    """All rounds of one side; round k of one stands beside round k of another."""

    side: str
    group: str
    rounds: list[Round] = field(default_factory=list)
    failure: str | None = None
    """Why there are no rounds."""


@dataclass
class Point:
    """One size and concurrency; the baseline is the first of the sides."""

    pixels: int
    concurrency: int
    sides: list[Measured]
    difference: int | None = None
    """Levels, of 255, between the engine's images and the baseline's of the same seed at most."""


def measure(plan: Plan, networks: Networks) -> Iterator[str | Point]:
    """Sentences of progress, and each point once it is measured.

    Raises:
        RuntimeError: the baseline failed; any other side's failure is one of its figures.
    """
    contestants = Contestants(plan, networks)
    for pixels in plan.pixels:
        for concurrency in plan.concurrencies:
            torch.compiler.reset()  # lets go of the graphs of other shapes
            entries = contestants.entries(pixels, concurrency)
            point = Point(pixels, concurrency, [Measured(one.name, one.group) for one in entries])
            for entry, measured in zip(entries, point.sides, strict=True):
                if isinstance(entry.side, Failure):
                    measured.failure = entry.side.reason
            yield f"{pixels} pixels, {concurrency} open"
            yield from _warm_up(plan, entries, point)
            for number in range(plan.rounds):
                yield f"round {number + 1} of {plan.rounds}"
                for entry, measured in zip(entries, point.sides, strict=True):
                    _round(plan, entry, measured, pixels)
            for entry in entries:
                if not isinstance(entry.side, Failure):
                    entry.side.close()
            if point.sides[0].failure:
                raise RuntimeError(f"the baseline {point.sides[0].failure}")
            yield point


def _warm_up(plan: Plan, entries: list[Entry], point: Point) -> Iterator[str]:
    """Meets every shape a few times, and compares the engine's image with the baseline's."""
    for entry, measured in zip(entries, point.sides, strict=True):
        if measured.failure or isinstance(entry.side, Failure):
            yield f"{entry.name}: {measured.failure}"
            continue
        made = None
        work = partial(entry.side.make, entry.images, point.pixels, plan.warm_up_steps)
        begun = time.perf_counter()
        for _ in range(WARM_UPS):
            made = attempt(work)
            if isinstance(made, Failure):
                measured.failure = made.reason
                break
        yield measured.failure or f"{entry.name}: warm after {time.perf_counter() - begun:.0f} s"
        if entry.group == "c" and isinstance(made, Made) and isinstance(entries[0].side, BareSide):
            reference = entries[0].side.image(0, point.pixels, plan.warm_up_steps)
            difference = made.images[0].astype(int) - reference.astype(int)
            point.difference = max(point.difference or 0, int(np.abs(difference).max()))


def _round(plan: Plan, entry: Entry, measured: Measured, pixels: int) -> None:
    if measured.failure or isinstance(entry.side, Failure):
        return
    work = partial(entry.side.make, entry.images, pixels, plan.steps)
    synchronize()
    started = time.perf_counter()
    made = attempt(work)
    synchronize()
    elapsed = time.perf_counter() - started
    if isinstance(made, Failure):
        measured.failure, measured.rounds = made.reason, []
    else:
        measured.rounds.append(Round(elapsed, made.latencies))
