"""Inpainting where an autoencoder samples the latents of the image and of its kept part."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from services.diffusion.inpainting import Inpaint
from services.diffusion.noise import draw
from services.engine.stack import State


@dataclass(eq=False)
class SampledInpaint(Inpaint):
    """Draws the image's latent, the noise, then the masked image's latent.

    That is the order of StableDiffusionInpaintPipeline of diffusers. Each draw is left out where
    the request gives what it is for; the first one also where neither the start of the loop nor
    the blending reads the image. The last one takes place where the UNet has no use for it too.
    """

    sample: Callable[[torch.Tensor, torch.Generator], torch.Tensor] = field(kw_only=True)
    """Moments [1, 2C, h, w] to a latent [1, C, h, w]."""
    given_masked_image: torch.Tensor | None = field(kw_only=True)
    """[1, C, h, w]; None samples it."""

    @property
    def reads_image(self) -> bool:
        """Whether the image's latent counts."""
        return self.stacking.blends or not self.from_noise

    @property
    def reads_masked_image(self) -> bool:
        """Whether the UNet takes the latent of the masked image."""
        return "masked_image" in self.stacking.order

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        """The state before the first step.

        Args:
            value: moments [1, 2NC, h, w] of what is to be sampled: the image, the masked image.
            generator: the job's own.
        """
        moments = [] if value is None else [*value.split(2 * self.shape[0], dim=1)]
        if self.reads_image:
            start = self.start
            self.image = self.sample(moments.pop(0), generator) if start is None else start
        self.initial_noise = self._noise(generator)
        if self.given_masked_image is not None:
            self.masked_image = self.given_masked_image
        elif self.reads_masked_image:
            self.masked_image = self.sample(moments.pop(0), generator)
        else:
            draw((1, *self.shape), generator, self.like)
        return self._begun()
