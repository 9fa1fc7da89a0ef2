"""The denoising loop that makes a larger image of a small one, as unCLIP does: arXiv 2204.06125."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

from services.diffusion.denoising import Denoise
from services.diffusion.network import DenoisingNetwork, Shapes
from services.diffusion.steps import DenoisingSteps
from services.engine.layout import RowLayout
from services.engine.phase import Network
from services.engine.snapshot import Snapshot, SnapshotRefused, accept_latent
from services.engine.stack import Stack, State
from services.engine.stepper import Stepper
from services.loading.denoising_call import denoising_call
from services.loading.runtime_options import RuntimeOptions

UPSCALED = "upscaled"
"""In the state: the small image, interpolated to the size of the large one."""


class UpscalingNetwork(DenoisingNetwork):
    """[rows, 2C, H, W], the latent and the upscaled image, to noise [rows, C, H, W].

    Args:
        unet: a UNet2DModel of diffusers.
        runtime: how it is called.
        name: in the engine's counters.
    """

    def __init__(self, unet: torch.nn.Module, runtime: RuntimeOptions, name: str) -> None:
        self.name = name
        self._call = denoising_call(unet, runtime)

    def shapes(self, height: int, width: int) -> Shapes:
        return {}

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self._call(sample=inputs, timestep=timesteps, return_dict=False)[0]


class SuperResolutionSteps(DenoisingSteps):
    """The steps of loops whose network sees the upscaled image beside the latent."""

    def inputs(self, stack: Stack) -> torch.Tensor:
        return torch.cat([super().inputs(stack), stack.state[UPSCALED]], dim=1)

    def advance(self, stack: Stack, prediction: torch.Tensor, noise: torch.Tensor | None) -> State:
        upscaled = stack.state[UPSCALED]
        return {**super().advance(stack, prediction, noise), UPSCALED: upscaled}


@dataclass(eq=False)
class SuperResolution(Denoise):
    """A denoising loop from noise to a large image, of the small one that the phase before made.

    Without guidance. Its last step is another network's.
    """

    last: DenoisingNetwork = field(kw_only=True)
    """The network of the last step."""
    model_like: torch.Tensor = field(kw_only=True)
    """Has the networks' device and dtype."""
    name: str = "super_resolution"

    def network_at(self, step: int) -> Network:
        return self.last if step == len(self.timesteps) - 1 else self.network

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        image = self.start if value is None else value
        if image is None:
            raise ValueError("super-resolution needs an image")
        latent = self.sampler.initial_latents(self._noise(generator))
        upscaled = F.interpolate(
            image, self.shape[1:], mode="bicubic", align_corners=False, antialias=True
        )
        return {**self.sampler.rows.begun(latent), UPSCALED: upscaled}

    def layout(self, state: State) -> RowLayout:
        channels, *sides = self.shape
        return RowLayout(torch.Size([2 * channels, *sides]), self.like.dtype)

    def saved(self, state: State) -> Mapping[str, torch.Tensor]:
        own = {name: tensor for name, tensor in state.items() if name != UPSCALED}
        return {**super().saved(own), UPSCALED: state[UPSCALED]}

    def accept(self, snapshot: Snapshot) -> Snapshot:
        state = dict(snapshot.state)
        upscaled = state.pop(UPSCALED, None)
        if upscaled is None:
            raise SnapshotRefused("state", f"lacks {UPSCALED}")
        try:
            upscaled = accept_latent(upscaled, (1, *self.shape), self.like.dtype)
        except SnapshotRefused as error:
            raise SnapshotRefused("state", f"{UPSCALED} {error.description}") from error
        accepted = super().accept(replace(snapshot, state=state))
        return replace(accepted, state={**accepted.state, UPSCALED: upscaled})

    def restore(self, snapshot: Snapshot, begun: State) -> State:
        state = dict(snapshot.state)
        upscaled = state.pop(UPSCALED).to(self.like)
        return {**super().restore(replace(snapshot, state=state), begun), UPSCALED: upscaled}

    @property
    def like(self) -> torch.Tensor:
        return self.model_like

    def _stepper(self) -> Stepper:
        return SuperResolutionSteps(
            self.sampler.rows, self.guidance.rule, self.sampler.reads_variance
        )
