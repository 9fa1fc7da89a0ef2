"""The denoising loop of priors and decoders: from noise, or from an image or embedding."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from services.diffusion.guidance import Guidance
from services.diffusion.noise import draw
from services.diffusion.previews import Previewer
from services.diffusion.split_unet import SHALLOW_COST
from services.diffusion.steps import DenoisingSteps
from services.engine.phase import Network, Phase
from services.engine.snapshot import Snapshot, SnapshotRefused, accept_latent
from services.engine.stack import State
from services.engine.stepper import Stepper
from services.samplers.sampler import Sampler
from services.samplers.scheduler_state import StateRefused

Interval = tuple[float, float]
EVERYWHERE: Interval = (0.0, 1.0)
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
    guidance_interval: Interval = EVERYWHERE
    """Of t / num_train_timesteps, in which guidance is on."""
    step_cache_interval: int = 1
    """Every so many steps the network is passed whole; between them without its deep part."""
    rows: int = field(init=False)
    latent_area: int = field(init=False)
    timesteps: Sequence[float] = field(init=False)
    stepper: Stepper = field(init=False)
    _rows: list[int] = field(init=False)

    def __post_init__(self) -> None:
        rows = len(next(iter(self.conditioning.values()), (None,)))
        low, high = self.guidance_interval
        levels = self.sampler.timesteps / self.sampler.scheduler.config.num_train_timesteps
        self._rows = [rows if low <= level <= high else 1 for level in levels.tolist()]
        self.rows = max(self._rows)
        self.latent_area = math.prod(self.shape[1:])
        self.timesteps = self.sampler.timesteps.tolist()
        self.stepper = self._stepper()

    def rows_at(self, step: int) -> int:
        return self._rows[step]

    @property
    def stands_alone(self) -> bool:
        """All that it needs of an image to start from is in the latent."""
        return True

    @property
    def keeps_deep(self) -> bool:
        return self.step_cache_interval > 1

    def is_shallow(self, step: int) -> bool:
        """Between whole passes; where guidance comes on, its rows have no deep part yet."""
        is_between = step < len(self._rows) and step % self.step_cache_interval != 0
        return is_between and self._rows[step] <= self._rows[step - 1]

    def passes(self, done: int = 0) -> Mapping[bool, int]:
        if not self.keeps_deep:
            return super().passes(done)
        shallow = sum(self.is_shallow(step) for step in range(done, len(self.timesteps)))
        return {False: len(self.timesteps) - done - shallow, True: shallow}

    def cost_at(self, step: int) -> float:
        return super().cost_at(step) * (SHALLOW_COST if self.is_shallow(step) else 1)

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        noise = self._noise(generator)
        start = self.start if value is None else value
        if start is None:
            latent = self.sampler.initial_latents(noise)
        elif self.noise_adder is not None:
            latent = self.noise_adder(start, noise)
        else:
            latent = self.sampler.add_noise(start, noise)
        return self.sampler.rows.begun(latent)

    def result(self, latent: torch.Tensor) -> torch.Tensor:
        return latent if self.finish is None else self.finish(latent)

    def outputs(self, value: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {self.output: value}

    def saved(self, state: State) -> Mapping[str, torch.Tensor]:
        return self.sampler.saved(state)

    def accept(self, snapshot: Snapshot) -> Snapshot:
        latent = accept_latent(snapshot.latent, (1, *self.shape), self.like.dtype)
        try:
            state = self.sampler.accept(snapshot.state, snapshot.step, latent)
        except StateRefused as error:
            raise SnapshotRefused("state", str(error)) from error
        return replace(snapshot, latent=latent, state=state)

    def restore(self, snapshot: Snapshot, begun: State) -> State:
        latent = snapshot.latent.to(self.like)
        state = self.sampler.restore(snapshot.state, latent)
        return {name: tensor.to(latent.device) for name, tensor in state.items()}

    @property
    def like(self) -> torch.Tensor:
        """Has the latent's device and dtype."""
        return next(each for each in self.conditioning.values() if each.is_floating_point())

    def _stepper(self) -> Stepper:
        return DenoisingSteps(self.sampler.rows, self.guidance.rule, self.sampler.reads_variance)

    def _noise(self, generator: torch.Generator) -> torch.Tensor:
        if self.given_noise is not None:
            return self.given_noise
        return draw((1, *self.shape), generator, self.like)
