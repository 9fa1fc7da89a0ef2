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
from benchmarks.full_size.steps import Step, step

WARM_UPS = 3
"""A captured graph is compiled, recorded and replayed first; each takes a call."""


@dataclass
class Measured:
    """All rounds of one side; round k of one stands beside round k of another."""

    side: str
    group: str
    at_once: int
    rounds: list[Round] = field(default_factory=list)
    warm_up: float = 0.0
    """Seconds until it was warm: compiling, capturing, choosing kernels."""
    failure: str | None = None
    """Why there are no rounds."""
    difference: tuple[int, float] | None = None
    """Levels, of 255, between the engine's image of seed 0 and the baseline's: most, and mean."""
    step: Step | None = None
    """Of the engine's sides."""


@dataclass
class Point:
    """One image size; the baseline is the first of the sides."""

    pixels: int
    sides: list[Measured]


def measure(plan: Plan, networks: Networks) -> Iterator[str | Point]:
    """Sentences of progress, and each point once it is measured.

    Raises:
        RuntimeError: the baseline failed; any other side's failure is one of its figures.
    """
    contestants = Contestants(plan, networks)
    for pixels in plan.pixels:
        torch.compiler.reset()  # lets go of the graphs of other sizes
        entries = contestants.entries(pixels)
        point = Point(pixels, [Measured(one.name, one.group, one.at_once) for one in entries])
        pairs = list(zip(entries, point.sides, strict=True))
        for entry, measured in pairs:
            if isinstance(entry.side, Failure):
                measured.failure = entry.side.reason
        for entry, measured in pairs:
            yield _warm_up(plan, entry, measured, pixels)
        reference = _reference(plan, entries[0], pixels)
        for number in range(plan.rounds):
            yield f"round {number + 1} of {plan.rounds}"
            for entry, measured in pairs:
                made = _round(plan, entry, measured, pixels)
                if made is not None and entry.group == "c" and reference is not None:
                    apart = np.abs(made.images[0].astype(int) - reference.astype(int))
                    measured.difference = int(apart.max()), float(apart.mean())
        for entry, measured in pairs:
            if isinstance(entry.side, Failure) or measured.failure:
                continue
            if entry.group == "c":
                measured.step = step(plan, networks, entry, pixels)
            entry.side.close()
        if point.sides[0].failure:
            raise RuntimeError(f"the baseline {point.sides[0].failure}")
        yield point


def _reference(plan: Plan, baseline: Entry, pixels: int) -> np.ndarray | None:
    """The bare pipeline's image of seed 0, with noise drawn as the engine draws it."""
    if not isinstance(baseline.side, BareSide):
        return None
    return baseline.side.image(0, pixels, plan.steps)


def _warm_up(plan: Plan, entry: Entry, measured: Measured, pixels: int) -> str:
    """Meets every shape a few times."""
    if isinstance(entry.side, Failure):
        return f"{entry.name}: {measured.failure}"
    work = partial(entry.side.make, entry.images, pixels, plan.warm_up_steps)
    begun = time.perf_counter()
    for _ in range(WARM_UPS):
        made = attempt(work)
        if isinstance(made, Failure):
            measured.failure = made.reason
            break
    measured.warm_up = time.perf_counter() - begun
    return measured.failure or f"{entry.name}: warm after {measured.warm_up:.0f} s"


def _round(plan: Plan, entry: Entry, measured: Measured, pixels: int) -> Made | None:
    if measured.failure or isinstance(entry.side, Failure):
        return None
    work = partial(entry.side.make, entry.images, pixels, plan.steps)
    synchronize()
    started = time.perf_counter()
    made = attempt(work)
    synchronize()
    elapsed = time.perf_counter() - started
    if isinstance(made, Failure):
        measured.failure, measured.rounds = made.reason, []
        return None
    measured.rounds.append(Round(elapsed, tuple((0.0, each) for each in made.latencies)))
    return made
