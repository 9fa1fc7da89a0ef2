"""UNets of diffusers as denoising networks whose deep blocks can be left out."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from services.diffusion.network import DenoisingNetwork
from services.diffusion.split_unet import SplitUNet
from services.engine.phase import SplitNetwork
from services.loading.runtime_options import RuntimeOptions


class UNetNetwork(DenoisingNetwork, SplitNetwork):
    """[rows, C, h, w] to noise and variance [rows, 2C, h, w].

    Args:
        unet: of diffusers.
        runtime: how it is called.
        name: in the engine's counters.
    """

    def __init__(
        self, unet: UNet2DConditionModel, runtime: RuntimeOptions, name: str = "unet"
    ) -> None:
        self.unet = unet
        self.name = name
        self._calls = SplitUNet(unet, runtime)

    @property
    def splits(self) -> bool:
        return self._calls.splits

    @abstractmethod
    def arguments(self, conditioning: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """What the UNet's forward takes beside sample and timestep."""

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        (output,) = self._calls.whole(
            sample=inputs, timestep=timesteps, **self.arguments(conditioning)
        )
        return output

    def keeping(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        output, deep = self._calls.keeping(
            sample=inputs, timestep=timesteps, **self.arguments(conditioning)
        )
        return output, deep

    def shallow(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        deep: torch.Tensor,
    ) -> torch.Tensor:
        return self._calls.shallow(
            sample=inputs, timestep=timesteps, deep=deep, **self.arguments(conditioning)
        )[0]
