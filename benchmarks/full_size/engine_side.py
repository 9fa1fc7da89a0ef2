"""This project's engine on the same weights, in this process: neither Ray nor gRPC takes part.

All that the benchmark uses of the engine is in this file, and only this file needs the packages
of the wire format, which an accelerator's bare machine may lack.
"""

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.full_size.networks import Networks, scheduler
from benchmarks.full_size.side import Embeds, Made, Side
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2
from kandinsky.wire import tensors
from services.decoder.families import kandinsky_2_2
from services.decoder.latent_decoder import LatentDecoder
from services.device.clock import clock_of
from services.engine.batcher import Batcher
from services.engine.job import Finished, Job
from services.engine.limits import EngineLimits
from services.loading.model_offloader import ModelOffloader
from services.loading.preparation import prepare
from services.loading.runtime_options import RuntimeOptions


@dataclass(frozen=True)
class RandomLoader:
    """Answers as the loader of a checkpoint does, with networks that no checkpoint holds."""

    networks: Networks
    device: torch.device
    dtype: torch.dtype
    runtime: RuntimeOptions

    def model(self, cls: Any, part: str, *, is_autoencoder: bool = False) -> Any:
        """The network in subfolder `part`: a copy, since some options change it in place."""
        network = copy.deepcopy(getattr(self.networks, part))
        offloader = ModelOffloader()
        return prepare(network, self.runtime, self.device, offloader, is_autoencoder=is_autoencoder)

    def scheduler(self, part: str = "scheduler") -> Any:
        """The published noise scheduler."""
        return scheduler()


def decoder(networks: Networks, options: Mapping[str, bool]) -> LatentDecoder:
    """The family's decoder as a stage with these runtime options would hold it.

    Raises:
        OptionRefused: the device cannot do one.
    """
    movq, runtime = networks.movq, RuntimeOptions.model_validate(options)
    runtime.check(Stage.DECODER, movq.device)
    loader = RandomLoader(networks, movq.device, movq.dtype, runtime)
    return kandinsky_2_2.decoder({"weights": loader}, Catalog.load()["kandinsky-2-2"])


def decode_request(
    embeds: Embeds, guidance: float, pixels: int, steps: int, *, latents: bool = False
) -> decoder_pb2.DecodeRequest:
    """A square image from noise, or its latents as they are."""
    kind = decoder_pb2.DECODE_OUTPUT_LATENTS if latents else decoder_pb2.DECODE_OUTPUT_PIXELS
    request = decoder_pb2.DecodeRequest(output=kind)
    request.conditioning.image_embed.CopyFrom(tensors.from_torch(embeds.positive[0]))
    request.conditioning.negative_image_embed.CopyFrom(tensors.from_torch(embeds.negative[0]))
    request.sampling.guidance_scale, request.sampling.steps = guidance, steps
    request.start.noise.SetInParent()
    request.start.height = request.start.width = pixels
    return request


class EngineSide(Side):
    """A running batch, with a job for each image and so many of them open at any time.

    Args:
        concurrency: jobs that are open.
        pixels: of an image's side; bounds the batch.
    """

    def __init__(
        self,
        decoder: LatentDecoder,
        embeds: Embeds,
        guidance: float,
        concurrency: int,
        pixels: int,
    ) -> None:
        self._decoder, self._concurrency = decoder, concurrency
        rows = 2 * concurrency
        self._batcher = Batcher(
            EngineLimits(
                max_batch_rows=rows, max_batch_latent_area=rows * pixels**2, max_queue=concurrency
            ),
            device=clock_of(decoder.like.device),
        )
        self._request = partial(decode_request, embeds, guidance)

    def make(self, count: int, pixels: int, steps: int) -> Made:
        """Every image's noise comes from its own generator on the CPU, seeded 0, 1, 2, …"""
        return asyncio.run(self._make(count, self._request(pixels, steps)))

    def loop_seconds(self, jobs: int, pixels: int, steps: int) -> float:
        """Seconds of denoising loops alone, whose latents stay as they are."""
        request = self._request(pixels, steps, latents=True)
        begun = time.perf_counter()
        asyncio.run(self._loops(jobs, request))
        return time.perf_counter() - begun

    def forward(self, inputs: dict[str, Any]) -> Callable[[], object]:
        """The network as the engine calls it, on these arguments of diffusers' own."""
        network = self._decoder.denoiser.network
        embeds = {"image_embed": inputs["added_cond_kwargs"]["image_embeds"]}
        # float32, as the engine gives them: another dtype is another graph.
        return partial(network, inputs["sample"], inputs["timestep"].float(), embeds)

    def close(self) -> None:
        """Ends the engine's thread."""
        self._batcher.close()

    async def _loops(self, jobs: int, request: decoder_pb2.DecodeRequest) -> None:
        async with asyncio.TaskGroup() as workers:
            for seed in range(jobs):
                workers.create_task(self._run(seed, request))

    async def _make(self, count: int, request: decoder_pb2.DecodeRequest) -> Made:
        seeds = iter(range(count))
        latencies, images = [0.0] * count, [np.empty(0)] * count

        async def worker() -> None:
            for seed in seeds:
                begun = time.perf_counter()
                value = await self._run(seed, request)
                images[seed] = await asyncio.to_thread(as_uint8, value)
                latencies[seed] = time.perf_counter() - begun

        async with asyncio.TaskGroup() as workers:
            for _ in range(self._concurrency):
                workers.create_task(worker())
        return Made(tuple(latencies), tuple(images))

    async def _run(self, seed: int, request: decoder_pb2.DecodeRequest) -> torch.Tensor:
        generator = torch.Generator("cpu").manual_seed(seed)
        job = Job(str(seed), self._decoder.phases(request), generator)
        async for event in self._batcher.run(job):
            if isinstance(event, Finished):
                return next(iter(event.outputs.values()))
        raise RuntimeError("the engine ended a job without a result")


def as_uint8(value: torch.Tensor) -> np.ndarray:
    """[1, 3, H, W] from 0 to 1 to [H, W, 3], as DecoderService rounds."""
    image = value[0].permute(1, 2, 0).float().cpu()
    return (image * 255).round().to(torch.uint8).numpy()
