"""The denoising loop of an inpainting UNet, which sees the latent, the kept image and the mask."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from services.diffusion.denoising import Denoise
from services.diffusion.steps import DenoisingSteps
from services.engine.layout import RowLayout
from services.engine.stack import LATENT, Stack, State
from services.engine.stepper import Stepper

Part = Literal["latent", "masked_image", "kept", "hole"]
"""The latent as the sampler scales it, or an attribute of Inpaint."""


@dataclass(frozen=True)
class InpaintInputs:
    """How a family's inpainting UNet takes its image."""

    order: tuple[Part, ...]
    """Of the channels."""
    blends: bool
    """Whether every step puts the kept cells back, at the noise level of the step after it."""

    def channels(self, latent: int) -> int:
        """Of the UNet's input, where a latent has so many."""
        return sum(latent if part in ("latent", "masked_image") else 1 for part in self.order)


@dataclass(frozen=True)
class InpaintingSteps(DenoisingSteps):
    """The steps of an inpainting network's loops."""

    stacking: InpaintInputs

    def inputs(self, stack: Stack) -> torch.Tensor:
        latent = super().inputs(stack)
        parts = [latent if part == "latent" else _rows(stack, part) for part in self.stacking.order]
        return torch.cat(parts, dim=1)

    def advance(self, stack: Stack, prediction: torch.Tensor, noise: torch.Tensor | None) -> State:
        state = dict(super().advance(stack, prediction, noise))
        if self.stacking.blends:
            latent, kept = state[LATENT], _rows(stack, "kept")
            image, initial_noise = _rows(stack, "image"), _rows(stack, "initial_noise")
            known = self.sampler.noise_after(stack.at, image, initial_noise).to(latent.dtype)
            state[LATENT] = kept * known + (1 - kept) * latent
        return state


def _rows(stack: Stack, name: str) -> torch.Tensor:
    """An attribute of the jobs' phases, [J, ...]."""
    return stack.kept(name, lambda: torch.cat([getattr(phase, name) for phase in stack.phases]))


@dataclass(eq=False)
class Inpaint(Denoise):
    """A denoising loop that generates a part of an image and keeps the rest."""

    kept: torch.Tensor = field(kw_only=True)
    """[1, 1, h, w]: 1 where a cell is kept, 0 where it is generated."""
    stacking: InpaintInputs = field(kw_only=True)
    from_noise: bool = field(kw_only=True)
    """Whether the loop starts from noise alone rather than from the image with noise added."""
    name: str = "inpaint"
    image: torch.Tensor = field(init=False)
    """[1, C, h, w], the image's own latent."""
    masked_image: torch.Tensor = field(init=False)
    """[1, C, h, w], that of the kept cells alone."""
    initial_noise: torch.Tensor = field(init=False)

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        image = self.start if value is None else value
        if image is None:
            raise ValueError("inpainting needs an image")
        self.image, self.initial_noise = image, self._noise(generator)
        self.masked_image = image * self.kept
        return self._begun()

    @property
    def hole(self) -> torch.Tensor:
        """[1, 1, h, w]: 1 where a cell is generated, 0 where it is kept."""
        return 1 - self.kept

    @property
    def stands_alone(self) -> bool:
        """Each step needs the image and the initial noise."""
        return False

    def layout(self, state: State) -> RowLayout:
        channels, *sides = self.shape
        return RowLayout(torch.Size([self.stacking.channels(channels), *sides]), self.like.dtype)

    def _begun(self) -> State:
        if self.from_noise:
            latent = self.sampler.initial_latents(self.initial_noise)
        else:
            latent = self.sampler.add_noise(self.image, self.initial_noise)
        return self.sampler.rows.begun(latent)

    def _stepper(self) -> Stepper:
        return InpaintingSteps(
            self.sampler.rows, self.guidance.rule, self.sampler.reads_variance, self.stacking
        )
