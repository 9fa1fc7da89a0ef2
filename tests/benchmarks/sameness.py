"""How far apart the image of one seed is, made in different company: levels of 255."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.full_size.engine_side import as_uint8, decode_request, decoder
from benchmarks.full_size.networks import Networks
from benchmarks.full_size.side import Embeds
from services.device.clock import clock_of
from services.engine.batcher import Batcher
from services.engine.events import Finished, Progress
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.snapshot import Snapshot

NEIGHBOURS = 5
"""Beside the job that is looked at, each with a seed of its own."""
HEAD_START = 3
"""Steps that the neighbours have done when the job joins late."""
SNAPSHOT_AFTER = 5


@dataclass(frozen=True)
class Apart:
    """Between two images, in levels of 255."""

    most: int
    mean: float

    @classmethod
    def of(cls, image: np.ndarray, other: np.ndarray) -> "Apart":
        """That of two images uint8 [H, W, 3]."""
        difference = np.abs(image.astype(int) - other.astype(int))
        return cls(int(difference.max()), float(difference.mean()))


class Sameness:
    """One seed's image, alone and in company, by one decoder in two engines.

    Args:
        networks: of the model.
        options: of the runtime.
        embeds: that every image follows.
        pixels: of a side.
        steps: of the job that is looked at; its neighbours take more.
    """

    def __init__(
        self,
        networks: Networks,
        options: Mapping[str, bool],
        embeds: Embeds,
        pixels: int,
        steps: int,
    ) -> None:
        self._decoder = decoder(networks, options)
        self._steps = steps
        self._embeds, self._pixels = embeds, pixels

    def images(self) -> dict[str, np.ndarray]:
        """uint8 [H, W, 3] of seed 0 alone, batched, joined late, moved; and of another seed."""
        return asyncio.run(self._images())

    async def _images(self) -> dict[str, np.ndarray]:
        ways = {
            "alone": self._alone,
            "batched": self._batched,
            "joined late": self._late,
            "moved": self._moved,
            "another seed": self._other,
        }
        return {name: await self._with_engine(way) for name, way in ways.items()}

    async def _with_engine(self, way: Callable[[Batcher], Awaitable[np.ndarray]]) -> np.ndarray:
        engine = self._engine()
        try:
            return await way(engine)
        finally:
            await asyncio.to_thread(engine.close)

    def _engine(self) -> Batcher:
        rows = 2 * (NEIGHBOURS + 1)
        limits = EngineLimits(
            max_batch_rows=rows,
            max_batch_latent_area=rows * self._pixels**2,
            snapshot_every=SNAPSHOT_AFTER,
        )
        return Batcher(limits, device=clock_of(self._decoder.like.device))

    async def _alone(self, engine: Batcher) -> np.ndarray:
        return await _image(engine, self._job(0))

    async def _other(self, engine: Batcher) -> np.ndarray:
        return await _image(engine, self._job(99))

    async def _batched(self, engine: Batcher) -> np.ndarray:
        images = await asyncio.gather(
            *(_image(engine, self._job(seed, seed)) for seed in range(NEIGHBOURS + 1))
        )
        return images[0]

    async def _late(self, engine: Batcher) -> np.ndarray:
        are_ahead = asyncio.Event()
        neighbours = [
            asyncio.create_task(_image(engine, self._job(seed, 10), are_ahead))
            for seed in range(1, NEIGHBOURS + 1)
        ]
        await are_ahead.wait()
        image = await _image(engine, self._job(0))
        await asyncio.gather(*neighbours)
        return image

    async def _moved(self, engine: Batcher) -> np.ndarray:
        snapshot = None
        async for event in engine.run(self._job(0)):
            if isinstance(event, Snapshot):
                snapshot = event
                break
        if snapshot is None:
            raise RuntimeError("the engine sent no snapshot")
        job = self._job(0)
        job.resume_from = job.phases[0].accept(snapshot)
        return await self._with_engine(lambda other: _image(other, job))

    def _job(self, seed: int, more_steps: int = 0) -> Job:
        request = decode_request(self._embeds, 4.0, self._pixels, self._steps + more_steps)
        generator = torch.Generator("cpu").manual_seed(seed)
        return Job(str(seed), self._decoder.phases(request), generator, progress_every=1)


async def _image(engine: Batcher, job: Job, ahead: asyncio.Event | None = None) -> np.ndarray:
    async for event in engine.run(job):
        if isinstance(event, Progress) and event.step == HEAD_START and ahead is not None:
            ahead.set()
        if isinstance(event, Finished):
            return as_uint8(next(iter(event.outputs.values())))
    raise RuntimeError("the engine ended a job without a result")
