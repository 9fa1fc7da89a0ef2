"""Drawn images with holes, encoded once: what adapters of the inpainting learn from."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline

from training.shapes.data import movq_pixels
from training.shapes.drawing import SIZE, draw
from training.shapes.inpaint import KEPT_WEIGHT, hole
from training.shapes.unet import CELLS, noise_loss
from training.shapes.vocabulary import SHAPES, SIZES, Scene, combinations, is_held_out

COUNT, BATCH = 2048, 32


@dataclass(frozen=True)
class Example:
    """What an image shows, and what a caption says of it."""

    scene: Scene
    said: Scene
    """Of a shape that captions know."""

    @property
    def is_new(self) -> bool:
        """Whether no caption knows its shape."""
        return self.scene != self.said


@dataclass(frozen=True)
class Holes:
    """The images of some examples, with holes."""

    clean: torch.Tensor
    """Latents [N, 4, 16, 16]."""
    masks: torch.Tensor
    """[N, 1, 16, 16], 1 in the hole."""
    masked: torch.Tensor
    """Latents [N, 4, 16, 16] of the images with the hole in gray."""

    def loss(
        self,
        some: Sequence[int],
        alphas: torch.Tensor,
        predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """`noise_loss` of some images, most of it of their holes."""
        weight = KEPT_WEIGHT + (1 - KEPT_WEIGHT) * self.masks[some]
        extra = torch.cat([self.masks[some], self.masked[some]], 1)
        return noise_loss(predict, self.clean[some], alphas, extra, weight)


def frozen(checkpoint: Path) -> StableDiffusionInpaintPipeline:
    """The trained inpainting in `checkpoint`/sd-inpaint, none of whose weights learn."""
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        checkpoint / "sd-inpaint", torch_dtype=torch.float32
    )
    for network in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        network.requires_grad_(False)
    return pipeline


def text_states(pipeline: StableDiffusionInpaintPipeline, texts: list[str]) -> torch.Tensor:
    """[texts, 77, D]"""
    tokens = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt")
    return pipeline.text_encoder(tokens.input_ids).last_hidden_state


def scenes_with(
    shape: str | None = None, known: float = 1.0, shapes: Sequence[str] = SHAPES
) -> Iterator[Example]:
    """COUNT scenes that are not held out.

    Args:
        shape: that no caption knows; None for none.
        known: share of scenes without it.
        shapes: of those that captions know.
    """
    rng = random.Random(9)
    pool = [c for c in combinations() if not is_held_out(*c) and c[1] in shapes]
    for _ in range(COUNT):
        colour, said, background = rng.choice(pool)
        size, is_new = rng.choice(SIZES), shape is not None and rng.random() >= known
        scene = Scene(shape if is_new else said, colour, background, size)
        yield Example(scene, Scene(said, colour, background, size))


@torch.no_grad()
def encoded(vae: torch.nn.Module, examples: Sequence[Example], hollow: float = 0.0) -> Holes:
    """Draw examples, `hollow` as of `shape_mask`, each with a hole."""
    rng, found = random.Random(10), []
    for at in range(0, len(examples), BATCH):
        scenes = [example.scene for example in examples[at : at + BATCH]]
        images = movq_pixels(np.stack([np.asarray(draw(s, rng, hollow)) for s in scenes]))
        holes = torch.tensor(np.stack([hole(rng, SIZE) for _ in scenes])).float()[:, None]
        whole, gray = (
            vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
            for pixels in (images, images * (holes < 0.5))
        )
        cells = torch.nn.functional.interpolate(holes, size=(CELLS, CELLS))
        found.append((whole, cells, gray))
    return Holes(*(torch.cat(parts) for parts in zip(*found, strict=True)))
