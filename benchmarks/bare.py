"""The reference: diffusers' own pipelines on the same weights."""

import importlib
import io
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image
from torch.utils._pytree import tree_leaves

from benchmarks.workload import STRENGTH, ImageTask
from kandinsky.catalog.entry import CatalogEntry, Checkpoint, FolderCheckpoint
from kandinsky.catalog.family import CanvasKind, SamplerSpec, Stage
from kandinsky.wire import images
from services.transport.replica import keep_compiled

PRIORS = {"kandinsky-2-2": "diffusers:KandinskyV22PriorPipeline"}
"""The prior pipeline of each family."""
DECODERS = {
    ("kandinsky-2-2", CanvasKind.NOISE): "diffusers:KandinskyV22Pipeline",
    ("kandinsky-2-2", CanvasKind.IMAGE): "diffusers:KandinskyV22Img2ImgPipeline",
    ("kandinsky-2-2", CanvasKind.INPAINT): "diffusers:KandinskyV22InpaintPipeline",
}
"""The decoder pipeline of each family and canvas."""

COMPILED = {"prior": "forward", "unet": "forward", "movq": "decode"}
"""The method of each of a pipeline's networks that is compiled."""

Embeds = tuple[torch.Tensor, torch.Tensor]
"""Image embeddings and negative ones, [images, D] each."""


class BarePipelines:
    """A model's reference pipelines, with its catalog entry's defaults.

    On a CPU the autoencoder is laid out as NHWC, as the stages lay it out.

    Args:
        entry: the model.
        compiled: whether its networks go through torch.compile.

    Raises:
        LookupError: the family has no reference here.
    """

    def __init__(self, entry: CatalogEntry, compiled: bool = False) -> None:
        self.check(entry)
        keep_compiled()
        for library in (diffusers.utils.logging, transformers.utils.logging):
            library.set_verbosity_error()
            library.disable_progress_bar()
        self._entry, self._compiled = entry, compiled
        self._sampler = _prior_sampler(entry)
        self._prior = self._loaded(PRIORS[entry.family], entry.checkpoints(Stage.PRIOR)["weights"])
        decoder = entry.checkpoints(Stage.DECODER)["weights"]
        self._text_to_image = self._loaded(self._decoder(CanvasKind.NOISE), decoder)

    @staticmethod
    def check(entry: CatalogEntry) -> None:
        """Check that a model has reference pipelines.

        Raises:
            LookupError: its family has none here.
        """
        if entry.family not in PRIORS:
            raise LookupError(f"no reference pipelines are known for family {entry.family}")

    def make(self, tasks: Sequence[ImageTask]) -> list[bytes]:
        """Images of equal parameters in one call, as the PNG files that the gateway sends."""
        return self.decode(tasks, self.embeds(tasks))

    def embeds(self, tasks: Sequence[ImageTask]) -> Embeds:
        """The prior's part."""
        made = self._prior(
            [task.prompt for task in tasks],
            num_inference_steps=self._sampler.steps,
            guidance_scale=self._sampler.guidance_scale,
            generator=_generators(tasks),
        )
        return made.image_embeds, made.negative_image_embeds

    def decode(self, tasks: Sequence[ImageTask], embeds: Embeds) -> list[bytes]:
        """The decoder's part, for images of equal parameters; inpainted ones come alone."""
        first = tasks[0]
        own: dict[str, Any] = {}
        pipeline = self._text_to_image
        if first.canvas is CanvasKind.IMAGE:
            pipeline = self._image_to_image
            own = {"image": [_image(task.image) for task in tasks], "strength": STRENGTH}
        elif first.canvas is CanvasKind.INPAINT:
            pipeline = self._inpaint
            own = {"image": _image(first.image), "mask_image": _image(first.mask)}
        made = pipeline(
            image_embeds=embeds[0],
            negative_image_embeds=embeds[1],
            height=first.size,
            width=first.size,
            num_inference_steps=first.steps,
            guidance_scale=first.guidance_scale,
            generator=_generators(tasks),
            **own,
        )
        return [images.encode(np.asarray(image), "png") for image in made.images]

    @cached_property
    def _image_to_image(self) -> Any:
        cls = _named(self._decoder(CanvasKind.IMAGE))
        return _quiet(cls(**self._text_to_image.components))

    @cached_property
    def _inpaint(self) -> Any:
        checkpoint = self._entry.checkpoints(Stage.DECODER).get("inpaint")
        if checkpoint is None:
            raise LookupError(f"{self._entry.name} has no network for inpainting")
        return self._loaded(self._decoder(CanvasKind.INPAINT), checkpoint)

    def _decoder(self, canvas: CanvasKind) -> str:
        return DECODERS[self._entry.family, canvas]

    def _loaded(self, pipeline: str, checkpoint: Checkpoint) -> Any:
        if isinstance(checkpoint, FolderCheckpoint):
            source: dict[str, str] = {"pretrained_model_name_or_path": str(checkpoint.folder)}
        else:
            source = {
                "pretrained_model_name_or_path": checkpoint.hub,
                "revision": checkpoint.revision,
            }
        dtype = getattr(torch, self._entry.dtype)
        loaded = _quiet(_named(pipeline).from_pretrained(**source, dtype=dtype))
        device = self._entry.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = loaded.to(device)
        if device == "cpu" and hasattr(loaded, "movq"):
            loaded.movq.to(memory_format=torch.channels_last)
        if self._compiled:
            for name, call in COMPILED.items():
                if hasattr(loaded, name):
                    network = getattr(loaded, name)
                    setattr(network, call, _compiled(getattr(network, call)))
        return loaded


def _prior_sampler(entry: CatalogEntry) -> SamplerSpec:
    sampler = entry.sampler("prior")
    if sampler is None:
        raise LookupError(f"{entry.name} has no prior settings")
    return sampler


def _named(pipeline: str) -> Any:
    module, _, name = pipeline.partition(":")
    return getattr(importlib.import_module(module), name)


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _compiled(call: Any) -> Any:
    """Through torch.compile as the stages do it: once a size, for any number of rows."""
    compiled = torch.compile(call, recompile_limit=64)

    def run(*arguments: Any, **named: Any) -> Any:
        for leaf in tree_leaves((arguments, named)):
            if isinstance(leaf, torch.Tensor) and leaf.ndim > 1:
                torch._dynamo.maybe_mark_dynamic(leaf, 0)
        return compiled(*arguments, **named)

    return run


def _generators(tasks: Sequence[ImageTask]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(task.seed) for task in tasks]


def _image(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))
