"""A baseline: the same pipelines behind plain Ray Serve, batched at the request.

Each replica holds prior and decoder and answers the public contract's unary RPC; `@serve.batch`
gathers calls, and a batch ends as a whole. Each pipeline is called once for all the images of a
batch whose parameters allow it: the prior for all of them, the decoder for those of equal canvas,
size, steps and guidance. How calls are gathered is said by each call's metadata, so that the same
replicas serve every setting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ray import serve

from benchmarks.bare import BarePipelines
from benchmarks.workload import ImageTask, groups, to_task
from kandinsky.catalog.catalog import Catalog
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import sampling_pb2
from services.loading.memory import keep_freed_memory
from services.transport.rpc import Context

MAX_ONGOING_REQUESTS = 1000
SETTING = "x-batching"
"""Metadata key of a call's Batching."""


@dataclass(frozen=True)
class Batching:
    """How calls are gathered, and by which replicas."""

    max_batch_size: int
    wait_seconds: float
    """How long a batch that is not full waits for more."""
    compiled: bool = False

    def __str__(self) -> str:
        how = "compiled, " if self.compiled else ""
        return f"{how}up to {self.max_batch_size}, wait {self.wait_seconds * 1000:g} ms"

    @property
    def application(self) -> str:
        """In Serve."""
        return "batched-compiled" if self.compiled else "batched"

    def metadata(self) -> list[tuple[str, str]]:
        """Of a call, by which Serve's proxy finds the application and that the setting."""
        setting = f"{self.max_batch_size},{self.wait_seconds}"
        return [("application", self.application), (SETTING, setting)]

    @classmethod
    def of(cls, context: Context) -> "Batching":
        """What a call's metadata say."""
        size, wait = dict(context.invocation_metadata())[SETTING].split(",")
        return cls(int(size), float(wait))


Answers = list[generation.GenerateResponse]
Gathered = Callable[[ImageTask], Awaitable[generation.GenerateResponse]]


@serve.deployment(name="Batched", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Batched:
    """GenerationService's unary RPC, for a prompt with three of its canvases."""

    def __init__(self, model: str, catalog: list[str], threads: int, compiled: bool) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        entry = Catalog.load(Path(folder) for folder in catalog)[model]
        self._pipelines = BarePipelines(entry, compiled)
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._gathered = cache(self._gathering)

    async def GenerateImages(
        self, request: generation.GenerateRequest, grpc_context: Context
    ) -> generation.GenerateResponse:
        """An image of one prompt."""
        return await self._gathered(Batching.of(grpc_context))(to_task(request))

    def _gathering(self, batching: Batching) -> Gathered:
        @serve.batch(
            max_batch_size=batching.max_batch_size, batch_wait_timeout_s=batching.wait_seconds
        )
        async def make(tasks: list[ImageTask]) -> Answers:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._device, self._make, tasks)

        return make

    def _make(self, tasks: list[ImageTask]) -> Answers:
        embeds, negatives = self._pipelines.embeds(tasks)
        answers: dict[int, generation.GenerateResponse] = {}
        for indices in groups(tasks):
            together = [tasks[index] for index in indices]
            pngs = self._pipelines.decode(together, (embeds[indices], negatives[indices]))
            rows = len(together) * (2 if together[0].guidance_scale > 1 else 1)
            stats = sampling_pb2.SamplingStats(peak_rows=rows)
            for index, png in zip(indices, pngs, strict=True):
                image = generation.GeneratedImage(encoded=png, decoder_stats=stats)
                answers[index] = generation.GenerateResponse(images=[image])
        return [answers[index] for index in range(len(tasks))]


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application; `replicas`, and the arguments of Batched."""
    own = dict(args)
    placed = Batched.options(
        num_replicas=own.pop("replicas"),
        ray_actor_options={
            "num_cpus": 0,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(own["threads"])}},
        },
    )
    return placed.bind(**own)
