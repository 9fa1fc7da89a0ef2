"""What snapshots add to the decoder's time, in the replica's own process."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.table import Table

from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2
from kandinsky.wire import tensors
from services.decoder.families import FAMILIES
from services.engine.batcher import Batcher
from services.engine.job import Finished, Job
from services.engine.limits import EngineLimits
from services.loading import families
from services.transport.events import event_fields
from services.transport.settings import StageSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCY = 16
EVERY = (1, 2, 5, 10)


@dataclass(frozen=True)
class Round:
    """All images made once."""

    seconds: float
    snapshots: int
    size: int
    """Bytes of one on the wire."""


@dataclass(frozen=True)
class Snapshots:
    """Rounds by the steps between two snapshots."""

    rounds: dict[int, list[Round]]

    @property
    def cost(self) -> float:
        """Seconds a snapshot: by how much the rounds with most of them take longer."""
        most, fewest = (self.rounds[EVERY[place]] for place in (0, -1))
        slopes = [
            (a.seconds - b.seconds) / (a.snapshots - b.snapshots)
            for a, b in zip(most, fewest, strict=True)
        ]
        return median(slopes)

    def rows(self) -> list[dict[str, Any]]:
        """One for each number of steps."""
        base = self.rounds[EVERY[-1]]
        return [
            {
                "steps between": every,
                "snapshots": rounds[0].snapshots,
                "bytes of one": rounds[0].size,
                "seconds": median(one.seconds for one in rounds),
                "times the fewest": median(
                    a.seconds / b.seconds for a, b in zip(rounds, base, strict=True)
                ),
                "share of the time": self.cost
                * rounds[0].snapshots
                / median(one.seconds for one in rounds),
            }
            for every, rounds in self.rounds.items()
        ]

    def table(self) -> Table:
        """A row for each number of steps."""
        names = list(self.rows()[0])
        table = columns(f"Snapshots, {CONCURRENCY} images at a time", names)
        for row in self.rows():
            whole = (str(row[name]) for name in names[:3])
            shares = number(row["times the fewest"], ".3f"), number(row["share of the time"], ".2%")
            table.add_row(*whole, number(row["seconds"], ".3f"), *shares)
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            f"{CONCURRENCY} guided images share the engine in this process; every event becomes "
            "a message as it would in a replica. Rounds are interleaved, seconds are medians. A "
            f"snapshot costs {self.cost * 1e6:.0f} µs: the median over rounds of the time that "
            "most of them took beyond the fewest, by their number; the share is that, times the "
            "row's number, of its time."
        )

    def content(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self.rows(), "seconds_of_one": self.cost}

    def plot(self, axes: "Axes") -> None:
        """Share of the time by steps between."""
        rows = self.rows()
        places = [str(row["steps between"]) for row in rows]
        axes.bar(places, [row["share of the time"] * 100 for row in rows], color="steelblue")
        axes.axhline(1, linestyle="--", color="gray")
        axes.set(xlabel="steps between snapshots", ylabel="% of decode time", title="Snapshots")


def measure(setup: Setup, say: Say) -> Snapshots:
    """Makes the same images with more and with fewer snapshots."""
    torch.set_num_threads(1)
    arguments = {"model": setup.entry.name, "catalog": [str(folder) for folder in setup.folders]}
    settings = StageSettings.parse(arguments)
    loaders = settings.loaders(Stage.DECODER)
    decoder = families.load(FAMILIES, setup.entry.family)(loaders, setup.entry)
    requests = _requests(setup, decoder)
    rounds: dict[int, list[Round]] = {every: [] for every in EVERY}
    asyncio.run(_round(decoder, requests, EVERY[-1]))
    for number_ in range(3 if setup.quick else 9):
        say(f"round {number_ + 1}")
        for every, found in rounds.items():
            found.append(asyncio.run(_round(decoder, requests, every)))
    return Snapshots(rounds)


def _requests(setup: Setup, decoder: Any) -> list[decoder_pb2.DecodeRequest]:
    size, sampler = setup.entry.size, setup.entry.sampler("decoder")
    if sampler is None:
        raise LookupError(f"{setup.entry.name} has no decoder settings")
    found = []
    for seed in range(CONCURRENCY):
        request = decoder_pb2.DecodeRequest()
        draw = np.random.default_rng(seed)
        usual = decoder.calibration_phase(size.height, size.width)
        for name, rows in usual.conditioning.items():
            for side in ("", "negative_"):
                value = draw.standard_normal(tuple(rows.shape[1:]), np.float32)
                getattr(request.conditioning, side + name).CopyFrom(tensors.encode(value))
        request.sampling.steps, request.sampling.seed = sampler.steps, seed
        request.sampling.guidance_scale = sampler.guidance_scale
        request.start.height, request.start.width = size.height, size.width
        request.start.noise.SetInParent()
        found.append(request)
    return found


async def _round(decoder: Any, requests: Sequence[decoder_pb2.DecodeRequest], every: int) -> Round:
    limits = EngineLimits(max_batch_rows=2 * CONCURRENCY, snapshot_every=every)
    batcher = Batcher(limits)
    sizes: list[int] = []

    async def draw(request: decoder_pb2.DecodeRequest) -> None:
        generator = torch.Generator("cpu").manual_seed(request.sampling.seed)
        async for event in batcher.run(Job("", decoder.phases(request), generator)):
            if not isinstance(event, Finished):
                message = decoder_pb2.DecodeEvent(**event_fields(event))
                size = len(message.SerializeToString())
                if message.HasField("snapshot"):
                    sizes.append(size)

    begun = time.perf_counter()
    await asyncio.gather(*(draw(request) for request in requests))
    seconds = time.perf_counter() - begun
    batcher.close()
    return Round(seconds, len(sizes), max(sizes))
