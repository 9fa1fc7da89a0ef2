"""The measurement: every side in turn, round after round, never two at the same time."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.bare import BarePipelines, Picture
from benchmarks.figures import Round, median_throughput
from benchmarks.machine import cores
from benchmarks.served import ServedRound, served_round
from kandinsky.catalog.catalog import CatalogEntry
from kandinsky.cli.child import serving
from kandinsky.wire import images

CONCURRENCIES = (1, 4, 8, 16)
PROMPTS = (
    "a red circle on a blue background",
    "a big green star on a white background",
    "a yellow square on a black background",
    "a purple ring on a gray background",
)
PAUSE = 0.3
"""Seconds between two sides: OpenMP's threads go on spinning for a moment after their work."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    bare_images: int
    """Pictures a round of each bare side."""
    least_images: int
    """Pictures a round of the served side; three for each request that is open, if that is more."""

    def images(self, concurrency: int) -> int:
        """Pictures a round at a concurrency."""
        return max(self.least_images, 3 * concurrency)


FULL = Effort(rounds=5, bare_images=8, least_images=12)
QUICK = Effort(rounds=3, bare_images=4, least_images=6)


@dataclass(frozen=True)
class Measured:
    """All rounds of all sides; round k of one side stands beside round k of another."""

    bare: dict[int, list[Round]]
    """By torch threads."""
    served: dict[int, list[ServedRound]]
    """By concurrency."""
    stage_threads: int
    """CPU threads of each of the three stages."""
    difference: int
    """Levels, of 255, by which a served picture differs from the bare one at most."""

    @property
    def bare_threads(self) -> int:
        """The thread count with which the bare pipelines are faster: the baseline."""
        return max(self.bare, key=lambda threads: median_throughput(self.bare[threads]))

    @property
    def baseline(self) -> list[Round]:
        """The rounds of the faster bare side."""
        return self.bare[self.bare_threads]


def measure(
    entry: CatalogEntry,
    effort: Effort,
    stage_threads: int,
    concurrencies: Sequence[int],
    server_options: Sequence[str] = (),
) -> Iterator[str | Measured]:
    """Sentences of progress, and at the end what was measured.

    Raises:
        ServerError: the server did not start or did not end.
        KandinskyError: it refused a request.
        LookupError: the family has no reference pipelines.
    """
    bare = BarePipelines(entry)
    counts = sorted({1, cores()})
    yield f"starting kandinsky up with {stage_threads} thread(s) a stage"
    options = ["--threads", str(stage_threads), *server_options]
    with serving(entry.name, options) as address:
        yield "warming up"
        for threads in counts:
            bare.round(_pictures(1), threads)
        for concurrency in concurrencies:
            served_round(address, entry.name, _pictures(2 * concurrency), concurrency)
        difference = _difference(bare, address, entry.name)
        bare_rounds: dict[int, list[Round]] = {threads: [] for threads in counts}
        served: dict[int, list[ServedRound]] = {concurrency: [] for concurrency in concurrencies}
        for number in range(effort.rounds):
            yield f"round {number + 1} of {effort.rounds}"
            for threads in counts:
                time.sleep(PAUSE)
                bare_rounds[threads].append(bare.round(_pictures(effort.bare_images), threads))
            for concurrency in concurrencies:
                time.sleep(PAUSE)
                pictures = _pictures(effort.images(concurrency))
                served[concurrency].append(served_round(address, entry.name, pictures, concurrency))
    yield Measured(bare_rounds, served, stage_threads, difference)


def _pictures(count: int) -> list[Picture]:
    return [Picture(PROMPTS[index % len(PROMPTS)], seed=index) for index in range(count)]


def _difference(bare: BarePipelines, address: str, model: str) -> int:
    pictures = _pictures(1)
    served = served_round(address, model, pictures, 1).images[0].array
    reference = images.decode(bare.make(pictures[0]), "picture")
    return int(np.abs(served.astype(int) - reference.astype(int)).max())
