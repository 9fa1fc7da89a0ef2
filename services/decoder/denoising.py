"""The denoising loop of a latent UNet: from noise, from a picture, and under a mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from diffusers.utils.torch_utils import randn_tensor

from services.decoder.previews import Previewing
from services.engine.phase import Network, Phase, classifier_free_guidance
from services.engine.snapshot import Snapshot, accept_latent
from services.samplers.sampler import Sampler

Noising = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes a clean latent and noise, gives the latent that a loop starts from."""


@dataclass(eq=False)
class Denoise(Phase):
    """The decoder's denoising loop; ends with the latent [1, C, h, w].

    Starts from a picture's latent with noise added where the phase before has encoded one, or
    `picture` is given; else from noise alone.
    """

    network: Network
    sampler: Sampler
    guidance_scale: float
    shape: tuple[int, int, int]
    conditioning: Mapping[str, torch.Tensor]
    given_noise: torch.Tensor | None = None
    """[1, C, h, w]; None draws it."""
    picture: torch.Tensor | None = None
    """[1, C, h, w]."""
    noising: Noising | None = None
    """How a picture is noised; None as the scheduler does it."""
    previewing: Previewing | None = None
    """Makes pixels of a foreseen latent; None where no previews are wanted."""
    name: str = "denoise"

    @property
    def timesteps(self) -> torch.Tensor:
        return self.sampler.timesteps

    @property
    def rows(self) -> int:
        return len(next(iter(self.conditioning.values())))

    @property
    def latent_area(self) -> int:
        return self.shape[1] * self.shape[2]

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        noise = self._noise(generator)
        picture = self.picture if value is None else value
        if picture is None:
            return self.sampler.initial_latents(noise)
        return (
            self.noising(picture, noise)
            if self.noising
            else self.sampler.add_noise(picture, noise, 0)
        )

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return self.sampler.scale_model_input(latent, step)

    def advance(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        noise, variance = self._guided(output, latent)
        if self.sampler.reads_variance:
            noise = torch.cat([noise, variance], dim=1)
        return self.sampler.step(noise, latent, step, generator)

    def state(self) -> Mapping[str, torch.Tensor]:
        return self.sampler.state()

    def accept(self, snapshot: Snapshot) -> Snapshot:
        latent = accept_latent(snapshot.latent, (1, *self.shape), self._like.dtype)
        state = self.sampler.accept(snapshot.state, snapshot.step, latent)
        return replace(snapshot, latent=latent, state=state)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.sampler.restore(state)

    def preview(self, output: torch.Tensor, latent: torch.Tensor, step: int) -> torch.Tensor | None:
        if self.previewing is None:
            return None
        noise, _ = self._guided(output, latent)
        return self.previewing(self.sampler.predicted_original_sample(noise, latent, step))

    def _guided(
        self, output: torch.Tensor, latent: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's prediction and its variance, of the latent's channels each."""
        noise, variance = output.split(latent.shape[1], dim=1)
        if self.rows == 2:
            noise = classifier_free_guidance(noise, self.guidance_scale)
            variance = variance[1:]  # of the conditional row, unguided
        return noise, variance

    def _noise(self, generator: torch.Generator) -> torch.Tensor:
        if self.given_noise is not None:
            return self.given_noise
        like = self._like
        return randn_tensor((1, *self.shape), generator, device=like.device, dtype=like.dtype)

    @property
    def _like(self) -> torch.Tensor:
        return next(iter(self.conditioning.values()))


@dataclass(eq=False)
class Repaint(Denoise):
    """The loop of an inpainting UNet, which sees latent, kept picture and mask: 2C + 1 channels."""

    kept: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """[1, 1, h, w]: 1 is kept, 0 is made anew."""
    from_noise: bool = True
    """Whether the loop starts from noise alone rather than from the noised picture."""
    blends: bool = True
    """Whether every step puts the kept cells back, at the noise level that the next one wants."""
    name: str = "repaint"
    _initial: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        self._initial = self._noise(generator)
        if value is not None:
            self.picture = value
        if self.from_noise:
            return self.sampler.initial_latents(self._initial)
        return self.sampler.add_noise(self.picture, self._initial, 0)

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return torch.cat([super().inputs(latent, step), self.picture * self.kept, self.kept], dim=1)

    def advance(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        latent = super().advance(output, latent, step, generator)
        if not self.blends:
            return latent
        known = self.picture
        if step + 1 < len(self.timesteps):
            known = self.sampler.add_noise(known, self._initial, step + 1)
        return self.kept * known + (1 - self.kept) * latent
