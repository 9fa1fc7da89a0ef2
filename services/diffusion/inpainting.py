"""The denoising loop of an inpainting UNet, which sees the latent, the kept image and the mask."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from services.diffusion.denoising import Denoise

Part = Literal["latent", "masked_image", "mask"]


@dataclass(frozen=True)
class InpaintInputs:
    """How a family's inpainting UNet takes its image: 2C + 1 channels."""

    order: tuple[Part, ...]
    """Of the channels."""
    blends: bool
    """Whether every step puts the kept cells back, at the noise level of the step after it."""

    def stack(self, latent: torch.Tensor, image: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """[1, 2C + 1, h, w].

        Args:
            latent: [1, C, h, w], scaled as the sampler has it.
            image: [1, C, h, w], the image's own latent.
            kept: [1, 1, h, w], 1 where a cell is kept, 0 where it is generated.
        """
        parts = {"latent": latent, "masked_image": image * kept, "mask": kept}
        return torch.cat([parts[name] for name in self.order], dim=1)


@dataclass(eq=False)
class Inpaint(Denoise):
    """A denoising loop that generates a part of an image and keeps the rest."""

    kept: torch.Tensor = field(kw_only=True)
    """[1, 1, h, w]: 1 where a cell is kept, 0 where it is generated."""
    stacking: InpaintInputs = field(kw_only=True)
    from_noise: bool = field(kw_only=True)
    """Whether the loop starts from noise alone rather than from the image with noise added."""
    name: str = "inpaint"
    _image: torch.Tensor = field(init=False)
    _initial_noise: torch.Tensor = field(init=False)

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        image = self.start if value is None else value
        if image is None:
            raise ValueError("inpainting needs an image")
        self._image, self._initial_noise = image, self._noise(generator)
        if self.from_noise:
            return self.sampler.initial_latents(self._initial_noise)
        return self.sampler.add_noise(image, self._initial_noise, 0)

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return self.stacking.stack(super().inputs(latent, step), self._image, self.kept)

    def advance(
        self, prediction: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        latent = super().advance(prediction, latent, step, generator)
        if not self.stacking.blends:
            return latent
        known = self._image
        if step + 1 < len(self.timesteps):
            known = self.sampler.add_noise(known, self._initial_noise, step + 1)
        return self.kept * known + (1 - self.kept) * latent
