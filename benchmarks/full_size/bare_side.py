"""diffusers' own pipeline on the same weights, as it is and with its documented settings."""

import copy
import time
from typing import Any

import numpy as np
import torch
from diffusers import KandinskyV22Pipeline

from benchmarks.full_size.networks import Networks, scheduler
from benchmarks.full_size.plan import Setting
from benchmarks.full_size.side import Embeds, Made, Side


def pipeline(networks: Networks, setting: Setting) -> KandinskyV22Pipeline:
    """A pipeline with a copy of the networks, since some settings change them in place.

    Raises:
        Exception: whatever diffusers raises for a setting that it cannot apply.
    """
    unet, movq = copy.deepcopy(networks.unet), copy.deepcopy(networks.movq)
    if setting.fused:
        unet.fuse_qkv_projections()
    if setting.channels_last:
        unet.to(memory_format=torch.channels_last)
        movq.to(memory_format=torch.channels_last)
    if setting.compiled:
        # A graph for each shape: what diffusers advises where shapes are few and known.
        options = {"mode": setting.compiled, "fullgraph": True, "dynamic": False}
        unet.compile(**options)
        movq.decode = torch.compile(movq.decode, **options)
    made = KandinskyV22Pipeline(unet=unet, movq=movq, scheduler=scheduler())
    made.set_progress_bar_config(disable=True)
    return made


class BareSide(Side):
    """A pipeline that makes its images in sequence, or as one batch.

    Args:
        batch: images a call.
    """

    def __init__(self, pipeline: Any, embeds: Embeds, guidance: float, batch: int) -> None:
        self._pipeline, self._batch = pipeline, batch
        self._options = {
            "image_embeds": embeds.positive,
            "negative_image_embeds": embeds.negative,
            "guidance_scale": guidance,
        }

    def make(self, count: int, pixels: int, steps: int) -> Made:
        """Noise is drawn on the device, which is the pipeline's fastest way."""
        latencies: list[float] = []
        images: list[np.ndarray] = []
        generator = torch.Generator(self._options["image_embeds"].device).manual_seed(0)
        for _ in range(count // self._batch):
            begun = time.perf_counter()
            images.extend(self._call(self._batch, pixels, steps, generator))
            latencies.extend([time.perf_counter() - begun] * self._batch)
        return Made(tuple(latencies), tuple(images))

    def image(self, seed: int, pixels: int, steps: int) -> np.ndarray:
        """One image whose noise is drawn on the CPU, as the engine draws it."""
        return self._call(1, pixels, steps, torch.Generator("cpu").manual_seed(seed))[0]

    def _call(
        self, images: int, pixels: int, steps: int, generator: torch.Generator
    ) -> list[np.ndarray]:
        found = self._pipeline(
            height=pixels,
            width=pixels,
            num_inference_steps=steps,
            num_images_per_prompt=images,
            generator=generator,
            **self._options,
        ).images
        return [np.asarray(image) for image in found]
