"""The reference pipelines of 2.1 and 2.2, called alike: one image a call, fresh generators."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

SEED = 11
STEPS, PRIOR_STEPS = 6, 4
HEIGHT, WIDTH = 64, 128
Embeds = tuple[torch.Tensor, torch.Tensor]
"""Image embedding and negative one, [1, D] each."""


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class Family:
    """The pipelines of one checkpoint folder."""

    folder: Path
    prefix: str
    """Of the classes: `KandinskyV22` or `Kandinsky`."""
    dtype: torch.dtype
    reads_text: bool

    def pipeline(self, name: str, part: str) -> Any:
        cls = getattr(diffusers, f"{self.prefix}{name}Pipeline")
        loaded = cls.from_pretrained(self.folder / part, dtype=self.dtype)
        loaded.set_progress_bar_config(disable=True)
        return loaded

    def prior(self, prompt: str, negative: str | None = None, seed: int = SEED) -> Embeds:
        """A text's embedding and its negative's, each of a generator of its own."""
        made = self.pipeline("Prior", "prior")(
            prompt,
            negative_prompt=negative,
            num_inference_steps=PRIOR_STEPS,
            generator=[generator(seed), generator(seed)] if negative else generator(seed),
        )
        return made.image_embeds, made.negative_image_embeds

    def decode(
        self,
        name: str,
        part: str,
        prompt: str,
        embeds: Embeds,
        seed: int = SEED,
        width: int = WIDTH,
        guidance_scale: float = 4.0,
        **options: Any,
    ) -> np.ndarray:
        """int [H, W, 3] of one decoder call."""
        text = {"prompt": prompt} if self.reads_text else {}
        made = self.pipeline(name, part)(
            **text,
            image_embeds=embeds[0],
            negative_image_embeds=embeds[1],
            height=HEIGHT,
            width=width,
            num_inference_steps=STEPS,
            guidance_scale=guidance_scale,
            generator=generator(seed),
            output_type="np",
            **options,
        )
        return (made.images[0] * 255).round().astype(int)
