"""What snapshots add to the decoder's time, in the replica's own process."""

import asyncio
import time
from statistics import median
from typing import Any

import torch

from benchmarks.full_size.engine_side import decode_request
from benchmarks.full_size.side import Embeds
from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2
from services.decoder.families import FAMILIES
from services.engine.batcher import Batcher
from services.engine.job import Finished, Job
from services.engine.limits import EngineLimits
from services.loading import families
from services.transport.events import event_fields
from services.transport.settings import StageSettings

CONCURRENCY = 16
EVERY = (1, 2, 5, 10)


def measure(setup: Setup, say: Say) -> Report:
    """Makes the same images with more and with fewer snapshots."""
    torch.set_num_threads(1)
    arguments = {"model": setup.entry.name, "catalog": [str(folder) for folder in setup.folders]}
    loaders = StageSettings.parse(arguments).loaders(Stage.DECODER)
    decoder = families.load(FAMILIES, setup.entry.family)(loaders, setup.entry)
    seconds: dict[int, list[float]] = {every: [] for every in EVERY}
    sizes: dict[int, list[int]] = {}
    asyncio.run(_round(setup, decoder, EVERY[-1]))
    for number in range(3 if setup.quick else 9):
        say(f"round {number + 1}")
        for every, taken in seconds.items():
            begun = time.perf_counter()
            sizes[every] = asyncio.run(_round(setup, decoder, every))
            taken.append(time.perf_counter() - begun)
    most, fewest = EVERY[0], EVERY[-1]
    more = len(sizes[most]) - len(sizes[fewest])
    pairs = list(zip(seconds[most], seconds[fewest], strict=True))
    cost = median((one - other) / more for one, other in pairs)
    rows = [
        {
            "steps between": str(every),
            "snapshots": len(sizes[every]),
            "bytes of one": max(sizes[every]),
            "seconds": median(taken),
            "% of the time": 100 * cost * len(sizes[every]) / median(taken),
        }
        for every, taken in seconds.items()
    ]
    return Report(
        title=f"Snapshots, {CONCURRENCY} images at a time",
        rows=rows,
        note=(
            f"{CONCURRENCY} guided images share the engine in this process; every event becomes "
            "a message as it would in a replica. Rounds are interleaved, seconds are medians. A "
            f"snapshot costs {cost * 1e6:.0f} µs: the median over rounds of the time that most of "
            "them took beyond the fewest, by their number; the share is that, times the row's "
            "number, of its time."
        ),
        plot=bars(rows, "steps between", "% of the time", 1.0),
        raw=seconds,
    )


async def _round(setup: Setup, decoder: Any, every: int) -> list[int]:
    """Bytes of each snapshot, of all images made once."""
    sampler = setup.entry.sampler("decoder")
    if sampler is None:
        raise LookupError(f"{setup.entry.name} has no decoder settings")
    width = decoder.denoiser.network.unet.config.encoder_hid_dim
    embeds = Embeds.random(width, torch.empty(0))
    request = decode_request(embeds, sampler.guidance_scale, setup.entry.size.height, sampler.steps)
    batcher = Batcher(EngineLimits(max_batch_rows=2 * CONCURRENCY, snapshot_every=every))
    sizes: list[int] = []

    async def draw(seed: int) -> None:
        generator = torch.Generator("cpu").manual_seed(seed)
        async for event in batcher.run(Job("", decoder.phases(request), generator)):
            if not isinstance(event, Finished):
                message = decoder_pb2.DecodeEvent(**event_fields(event))
                if message.HasField("snapshot"):
                    sizes.append(len(message.SerializeToString()))

    await asyncio.gather(*map(draw, range(CONCURRENCY)))
    batcher.close()
    return sizes
