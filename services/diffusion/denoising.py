"""The denoising loop of priors and decoders: from noise, or from an image or embedding."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from services.diffusion.guidance import Guidance
from services.diffusion.previews import Previewer
from services.engine.phase import Network, Phase
from services.engine.snapshot import Snapshot, SnapshotRefused, accept_latent
from services.samplers.noise import draw, to_device
from services.samplers.sampler import Sampler
from services.samplers.scheduler_state import StateRefused

NoiseAdder = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes a clean latent and noise; returns the latent that a loop starts from."""


@dataclass(eq=False)
class Denoise(Phase):
    """A denoising loop; ends with the latent, or embedding, [1, *shape].

    Starts from noise alone, unless the phase before has encoded an image or `start` is given: then
    from that, with noise added.
    """

    network: Network
    sampler: Sampler
    guidance: Guidance
    shape: tuple[int, ...]
    """[C, h, w] of a latent, [D] of an embedding."""
    conditioning: Mapping[str, torch.Tensor]
    given_noise: torch.Tensor | None = None
    """[1, *shape]; None draws it."""
    start: torch.Tensor | None = None
    """[1, *shape], without noise."""
    noise_adder: NoiseAdder | None = None
    """How noise is added to a start; None as the sampler does it."""
    previewer: Previewer | None = None
    """Makes an image of a predicted original sample; None makes no previews."""
    finish: Callable[[torch.Tensor], torch.Tensor] | None = None
    """Applied to what the last step leads to."""
    output: str = "latents"
    """Name of the job's output, where the loop is the last phase."""
    name: str = "denoise"
    rows: int = field(init=False)
    latent_area: int = field(init=False)
    timesteps: Sequence[torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = len(next(iter(self.conditioning.values())))
        self.latent_area = math.prod(self.shape[1:])
        self.timesteps = to_device(self.sampler.timesteps, self._like).unbind()

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        noise = self._noise(generator)
        start = self.start if value is None else value
        if start is None:
            return self.sampler.initial_latents(noise)
        if self.noise_adder is not None:
            return self.noise_adder(start, noise)
        return self.sampler.add_noise(start, noise, 0)

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return self.sampler.scale_model_input(latent, step)

    def predict(self, output: torch.Tensor, latent: torch.Tensor, step: int) -> torch.Tensor:
        return self.guidance(output, self.shape[0], self.sampler.reads_variance)

    def preview(
        self, prediction: torch.Tensor, latent: torch.Tensor, step: int
    ) -> torch.Tensor | None:
        if self.previewer is None:
            return None
        prediction = prediction[:, : self.shape[0]]
        return self.previewer(self.sampler.predicted_original_sample(prediction, latent, step))

    def advance(
        self, prediction: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        latent = self.sampler.step(prediction, latent, step, generator)
        is_last = step + 1 == len(self.timesteps)
        return self.finish(latent) if self.finish is not None and is_last else latent

    def outputs(self, value: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {self.output: value}

    def state(self) -> Mapping[str, torch.Tensor]:
        return self.sampler.state()

    def accept(self, snapshot: Snapshot) -> Snapshot:
        latent = accept_latent(snapshot.latent, (1, *self.shape), self._like.dtype)
        try:
            state = self.sampler.accept(snapshot.state, snapshot.step, latent)
        except StateRefused as error:
            raise SnapshotRefused("state", str(error)) from error
        return replace(snapshot, latent=latent, state=state)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.sampler.restore(state, self._like)

    def _noise(self, generator: torch.Generator) -> torch.Tensor:
        if self.given_noise is not None:
            return self.given_noise
        return draw((1, *self.shape), generator, self._like)

    @property
    def _like(self) -> torch.Tensor:
        """Has the latent's device and dtype."""
        return next(each for each in self.conditioning.values() if each.is_floating_point())
