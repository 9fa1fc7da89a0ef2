"""Sides that make the same images: all of them stand, one at a time is asked.

Every round lets each side take its turns, so that round k of one stands beside round k of another
and a machine that slows down slows them all.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from benchmarks.bare_processes import BareProcesses, bare_processes
from benchmarks.figures import Round, median_throughput
from benchmarks.load import ServedRound, served_round
from benchmarks.machine import cores
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask
from kandinsky.wire import images
from services.local.child import serving

PAUSE = 0.3
"""Seconds between two turns: OpenMP's threads go on spinning for a moment after their work."""


class Kind(StrEnum):
    """What makes the images."""

    BARE = "bare"
    """diffusers' pipelines in processes, one image at a time in each."""
    BATCHED = "request batching"
    """The same pipelines behind plain Ray Serve."""
    SERVED = "served"
    """This system."""


@dataclass(frozen=True)
class Side:
    """One that makes images."""

    kind: Kind
    name: str
    round: Callable[[Sequence[ImageTask], int], Round]
    """Makes images, so many requests open."""
    replicas: int = 1
    """Of the decoder, of request batching, or processes of bare pipelines."""


@dataclass(frozen=True)
class Turn:
    """What each side is asked for once a round."""

    concurrency: int
    """A bare side has as many open as it has processes, whatever it says."""
    tasks: Sequence[ImageTask]
    bare: Sequence[ImageTask] | None = None
    """What the bare sides make; nothing where absent."""


Rounds = Mapping[tuple[str, int], list[Round]]
"""By side's name and concurrency."""


@contextmanager
def bare_sides(setup: Setup) -> Iterator[tuple[BareProcesses, list[Side]]]:
    """The pipelines in one process with each thread count, and in as many as there are cores."""

    def side(processes: int, threads: int) -> Side:
        def turn(tasks: Sequence[ImageTask], _: int) -> Round:
            return bare.round(tasks, processes, threads)

        name = f"bare, {processes} process(es) of {threads} thread(s)"
        return Side(Kind.BARE, name, turn, processes)

    with bare_processes(setup.entry, cores()) as bare:
        alone = [side(1, threads) for threads in setup.bare_threads]
        yield bare, alone if cores() == 1 else [*alone, side(cores(), 1)]


@contextmanager
def served_sides(setup: Setup, say: Say) -> Iterator[list[Side]]:
    """This system, one server for each number of decoders, all of them up at the same time."""

    def side(decoders: int, address: str) -> Side:
        def turn(tasks: Sequence[ImageTask], concurrency: int) -> ServedRound:
            return served_round(address, setup.entry.name, tasks, concurrency)

        return Side(Kind.SERVED, f"served, {decoders} decoder(s)", turn, decoders)

    with ExitStack() as servers:
        sides = []
        for decoders in setup.decoders:
            say(f"starting kandinsky up with {decoders} decoder(s)")
            options = ["--replicas-decoder", str(decoders), *setup.server_options]
            address = servers.enter_context(serving(setup.entry.name, options))
            sides.append(side(decoders, address))
        yield sides


def play(sides: Sequence[Side], turns: Sequence[Turn], rounds: int, say: Say) -> Rounds:
    """Every side's turns, round after round."""
    played: dict[tuple[str, int], list[Round]] = {}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for turn in turns:
            for side in sides:
                is_bare = side.kind is Kind.BARE
                tasks = turn.bare if is_bare else turn.tasks
                if tasks:
                    time.sleep(PAUSE)
                    concurrency = side.replicas if is_bare else turn.concurrency
                    played_round = side.round(tasks, concurrency)
                    played.setdefault((side.name, concurrency), []).append(played_round)
    return played


def fastest(sides: Sequence[Side], kind: Kind, rounds: Rounds, concurrency: int) -> Side:
    """The side of a kind with the most images a second."""
    return max(
        (side for side in sides if side.kind is kind),
        key=lambda side: median_throughput(rounds[side.name, concurrency]),
    )


def difference(bare: BareProcesses, side: Side, tasks: Sequence[ImageTask]) -> int:
    """Levels, of 255, by which a served image differs from the bare one at most.

    The served ones are asked for all at once, so they share what the server shares.
    """
    served = side.round(tasks, len(tasks))
    if not isinstance(served, ServedRound):
        raise TypeError(f"{side.name} keeps no images")
    return max(
        int(np.abs(_pixels(one.png) - _pixels(bare.make(task))).max())
        for one, task in zip(served.made, tasks, strict=True)
    )


def _pixels(png: bytes) -> np.ndarray:
    return images.decode(png, "image").astype(int)
