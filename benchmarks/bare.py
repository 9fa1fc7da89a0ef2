"""The baseline: diffusers' own pipelines on the same weights, in this process, in sequence."""

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.figures import Round
from kandinsky.catalog.catalog import CatalogEntry, FolderCheckpoint, Stage
from kandinsky.wire import images

PIPELINES = {
    "kandinsky-2-2": ("diffusers:KandinskyV22PriorPipeline", "diffusers:KandinskyV22Pipeline"),
}
"""The prior and the decoder pipeline of each family."""


@dataclass(frozen=True)
class Picture:
    """One picture to make; both sides make the same ones."""

    prompt: str
    seed: int


class BarePipelines:
    """A model's reference pipelines, with its catalog entry's defaults.

    Raises:
        LookupError: the family has no reference here.
    """

    def __init__(self, entry: CatalogEntry) -> None:
        if entry.family not in PIPELINES:
            raise LookupError(f"no reference pipelines are known for family {entry.family}")
        self._entry = entry
        prior, decoder = PIPELINES[entry.family]
        self._prior = self._load(prior, Stage.PRIOR)
        self._decoder = self._load(decoder, Stage.DECODER)

    def make(self, picture: Picture) -> bytes:
        """The picture as the PNG file that the gateway would send."""
        defaults = self._entry.defaults
        prior = self._prior(
            picture.prompt,
            num_inference_steps=defaults.prior_steps,
            guidance_scale=defaults.prior_guidance_scale,
            generator=torch.Generator("cpu").manual_seed(picture.seed),
        )
        image = self._decoder(
            image_embeds=prior.image_embeds,
            negative_image_embeds=prior.negative_image_embeds,
            height=defaults.height,
            width=defaults.width,
            num_inference_steps=defaults.steps,
            guidance_scale=defaults.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(picture.seed),
        ).images[0]
        return images.encode(np.asarray(image), "png")

    def round(self, pictures: Sequence[Picture], threads: int) -> Round:
        """Makes the pictures in sequence, on this many torch threads."""
        torch.set_num_threads(threads)
        latencies = []
        started = time.perf_counter()
        for picture in pictures:
            begun = time.perf_counter()
            self.make(picture)
            latencies.append(time.perf_counter() - begun)
        return Round(time.perf_counter() - started, tuple(latencies))

    def _load(self, pipeline: str, stage: Stage) -> Any:
        module, _, name = pipeline.partition(":")
        cls = getattr(importlib.import_module(module), name)
        checkpoint = self._entry.checkpoints(stage).checkpoint
        if isinstance(checkpoint, FolderCheckpoint):
            source: dict[str, str] = {"pretrained_model_name_or_path": str(checkpoint.folder)}
        else:
            source = {
                "pretrained_model_name_or_path": checkpoint.hub,
                "revision": checkpoint.revision,
            }
        loaded = cls.from_pretrained(**source, torch_dtype=getattr(torch, self._entry.dtype))
        loaded.set_progress_bar_config(disable=True)
        device = self._entry.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return loaded.to(device)
