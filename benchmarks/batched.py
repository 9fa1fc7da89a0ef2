"""Request-level batching at its best: at each concurrency, the setting that was fastest in a trial.

For each number of decoder replicas that this system is measured with there is a baseline with as
many replicas, on the same cores: of one thread each, and of several where they do not fill the
cores. One Serve holds all of them, and every call says how it is to be gathered.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.batched_app import Batching, arguments
from benchmarks.contest import Kind, Side, Turn, fastest, play
from benchmarks.figures import Round
from benchmarks.load import batched_round
from benchmarks.machine import cores
from benchmarks.serve_apps import serving_apps
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask

BUILDER = "benchmarks.batched_app:build"
TRIAL_ROUNDS = 2
WAITS = (0.005, 0.05)
"""Seconds that a batch may wait for more, of those tried."""
WARM_UP = 8


@dataclass(frozen=True)
class Application:
    """Some replicas of the same pipelines."""

    replicas: int
    threads: int
    """torch threads of each."""

    @property
    def name(self) -> str:
        """In Serve."""
        return f"batched-{self.replicas}-{self.threads}"


@dataclass(frozen=True)
class Candidate:
    """One way of batching requests."""

    application: Application
    batching: Batching

    def __str__(self) -> str:
        return f"{self.application.threads} thread(s), {self.batching}"


@dataclass(frozen=True)
class Baseline:
    """Request batching with some replicas, and the setting that it keeps at each concurrency."""

    side: Side
    kept: Mapping[int, Candidate]

    def sentence(self) -> str:
        """The settings, for a note."""
        settings = "; ".join(f"{open_} open: {kept}" for open_, kept in self.kept.items())
        return f"{self.side.name}: {settings}"


def candidates(replicas: int, concurrency: int) -> list[Candidate]:
    """What is tried: a replica's whole share of what is open in a batch, or half of it."""
    threads = {1, max(1, cores() // replicas)}
    share = math.ceil(concurrency / replicas)
    batchings = [
        Batching(size, wait)
        for size in sorted({share, math.ceil(share / 2)})
        for wait in (WAITS if size > 1 else (0.0,))
    ]
    return [
        Candidate(Application(replicas, count), batching)
        for count in sorted(threads)
        for batching in batchings
    ]


@contextmanager
def baselines(
    setup: Setup, tasks: Mapping[int, Sequence[ImageTask]], say: Say
) -> Iterator[list[Baseline]]:
    """Request batching with as many replicas as each of this system's servers has decoders.

    Args:
        setup: names the decoders.
        images: what the settings are tried with, by concurrency.
        say: takes progress.
    """
    tried = {
        (replicas, concurrency): candidates(replicas, concurrency)
        for replicas in setup.decoders
        for concurrency in tasks
    }
    applications = {one.application for each in tried.values() for one in each}
    folders = [str(folder) for folder in setup.folders]
    started = {
        one.name: arguments(setup.entry.name, folders, one.replicas, one.threads)
        for one in applications
    }
    with serving_apps(BUILDER, started) as address:
        for application in applications:
            warm_up = Candidate(application, Batching(1, 0.0))
            _side(address, warm_up).round(next(iter(tasks.values()))[:WARM_UP], WARM_UP)
        found = []
        for replicas in setup.decoders:
            kept = {}
            for concurrency, sample in tasks.items():
                say(f"trying request batching, {replicas} replica(s), {concurrency} open")
                kept[concurrency] = _best(
                    address, tried[replicas, concurrency], sample, concurrency
                )
            found.append(_baseline(address, replicas, kept))
        yield found


def _best(
    address: str, tried: Sequence[Candidate], tasks: Sequence[ImageTask], concurrency: int
) -> Candidate:
    if len(tried) == 1:
        return tried[0]
    sides = {str(one): _side(address, one) for one in tried}
    rounds = play(list(sides.values()), [Turn(concurrency, tasks)], TRIAL_ROUNDS, lambda _: None)
    name = fastest(list(sides.values()), Kind.BATCHED, rounds, concurrency).name
    return next(one for one in tried if str(one) == name)


def _side(address: str, candidate: Candidate) -> Side:
    def turn(tasks: Sequence[ImageTask], concurrency: int) -> Round:
        application, batching = candidate.application.name, candidate.batching
        return batched_round(address, application, batching.metadata(), tasks, concurrency)

    return Side(Kind.BATCHED, str(candidate), turn, candidate.application.replicas)


def _baseline(address: str, replicas: int, kept: Mapping[int, Candidate]) -> Baseline:
    def turn(tasks: Sequence[ImageTask], concurrency: int) -> Round:
        candidate = kept[min(kept, key=lambda tried: abs(tried - concurrency))]
        return _side(address, candidate).round(tasks, concurrency)

    side = Side(Kind.BATCHED, f"request batching, {replicas} replica(s)", turn, replicas)
    return Baseline(side, kept)
