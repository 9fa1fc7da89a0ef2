"""The other baseline: the same pipelines behind plain Ray Serve, batched at the request.

One replica holds prior and decoder and speaks the public contract's unary RPCs; `@serve.batch`
gathers calls, and a batch ends as a whole. Each pipeline is called once for all the pictures of a
batch whose parameters allow it: the prior for all of them, the decoder for those of equal flow,
size, steps and guidance.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ray import serve

from benchmarks.bare import BarePipelines
from benchmarks.messages import Request, to_picture
from benchmarks.workload import Picture, groups
from kandinsky.catalog.catalog import Catalog
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import sampling_pb2

MAX_ONGOING_REQUESTS = 1000


@dataclass(frozen=True)
class Batching:
    """How a replica batches."""

    threads: int
    """torch threads."""
    max_batch_size: int
    wait_seconds: float
    """How long a batch that is not full waits for more."""

    def __str__(self) -> str:
        wait = f"{self.wait_seconds * 1000:g} ms"
        return f"{self.threads} thread(s), batches up to {self.max_batch_size}, wait {wait}"


@serve.deployment(name="Batched", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Batched:
    """GenerationService's unary RPCs of three flows."""

    def __init__(self, model: str, catalog: list[str], batching: Batching) -> None:
        torch.set_num_threads(batching.threads)
        self._pipelines = BarePipelines(Catalog.load(Path(folder) for folder in catalog)[model])
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._batch.set_max_batch_size(batching.max_batch_size)
        self._batch.set_batch_wait_timeout_s(batching.wait_seconds)

    async def TextToImageUnary(self, request: Request) -> generation.GenerateResponse:
        """A picture from a prompt."""
        return await self._batch(to_picture(request))

    async def ImageToImageUnary(self, request: Request) -> generation.GenerateResponse:
        """A picture that starts from a picture."""
        return await self._batch(to_picture(request))

    async def InpaintUnary(self, request: Request) -> generation.GenerateResponse:
        """The masked part of a picture made anew."""
        return await self._batch(to_picture(request))

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def _batch(self, pictures: list[Picture]) -> list[generation.GenerateResponse]:
        return await asyncio.get_running_loop().run_in_executor(self._device, self._make, pictures)

    def _make(self, pictures: list[Picture]) -> list[generation.GenerateResponse]:
        wanted, unwanted = self._pipelines.embeds(pictures)
        answers: dict[int, generation.GenerateResponse] = {}
        for indices in groups(pictures):
            together = [pictures[index] for index in indices]
            pngs = self._pipelines.decode(together, (wanted[indices], unwanted[indices]))
            stats = _stats(together)
            for index, png in zip(indices, pngs, strict=True):
                image = generation.GeneratedImage(encoded=png, decoder_stats=stats)
                answers[index] = generation.GenerateResponse(images=[image])
        return [answers[index] for index in range(len(pictures))]


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for a model's name, catalog folders and batching."""
    batching = Batching(**args["batching"])
    threads = {"env_vars": {"OMP_NUM_THREADS": str(batching.threads)}}
    placed = Batched.options(ray_actor_options={"num_cpus": 0, "runtime_env": threads})
    return placed.bind(args["model"], args["catalog"], batching)


def arguments(model: str, catalog: list[str], batching: Batching) -> dict[str, Any]:
    """What `build` takes."""
    return {"model": model, "catalog": catalog, "batching": asdict(batching)}


def _stats(together: list[Picture]) -> sampling_pb2.SamplingStats:
    steps, guided = together[0].steps, together[0].guidance_scale > 1
    return sampling_pb2.SamplingStats(
        forwards=steps,
        shared_forwards=steps if len(together) > 1 else 0,
        peak_rows=len(together) * (2 if guided else 1),
    )
