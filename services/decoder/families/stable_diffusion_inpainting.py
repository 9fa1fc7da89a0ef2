"""The decoder of Stable Diffusion inpainting: a UNet that attends to a text, a KL autoencoder."""

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPImageProcessor

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.adapters.adapters import SCALES, SLOTS, Adapters
from services.adapters.row_lora import RowLora
from services.decoder.inpainting_decoder import InpaintingDecoder
from services.decoder.latent_decoder import Inpainter
from services.diffusion.inpainting import InpaintInputs
from services.diffusion.kl_autoencoder import kl_autoencoder
from services.diffusion.masks import nearest_cells
from services.diffusion.network import DenoisingNetwork, Shapes
from services.diffusion.safety import SafetyChecker
from services.loading.denoising_call import denoising_call
from services.loading.loader import CheckpointError, Loader
from services.loading.runtime_options import RuntimeOptions
from services.samplers.schedulers import Schedulers

TEXT_POSITIONS = 77
"""Tokens of the text's states: CLIP's `model_max_length`."""
FREE_U_KEPT = 64
"""Weights whose jobs share forwards, those that were asked for last."""
INPUTS: Mapping[int, InpaintInputs] = {
    4: InpaintInputs(("latent",), blends=True),
    9: InpaintInputs(("latent", "hole", "masked_image"), blends=False),
}
"""By the UNet's input channels: one of text to image, and one that was trained to inpaint."""


class TextUNet(DenoisingNetwork):
    """[rows, 4 or 9, h, w] to noise [rows, 4, h, w]; attends to the text's states."""

    name = "unet"

    def __init__(self, unet: UNet2DConditionModel, runtime: RuntimeOptions, lora: RowLora) -> None:
        self._unet = unet
        self.lora = lora
        self._width = int(unet.config.cross_attention_dim)
        self._call: Callable[..., Any] = denoising_call(unet, runtime)
        self._uncompiled: Callable[..., Any] = unet

    @property
    def guidance_width(self) -> int | None:
        """Of a UNet distilled with guidance, arXiv 2310.04378."""
        width: int | None = self._unet.config.time_cond_proj_dim
        return width

    @lru_cache(maxsize=FREE_U_KEPT)  # noqa: B019 - a replica has one network, for good
    def with_free_u(self, b1: float, b2: float, s1: float, s2: float) -> "TextUNet":
        """The same network, reweighted; equal weights are one network."""
        return FreeUNet(self._unet, self.lora, {"b1": b1, "b2": b2, "s1": s1, "s2": s2})

    @cached_property
    def adapted(self) -> "AdaptedUNet":
        """The same network, for jobs whose rows have adapters; never compiled."""
        return AdaptedUNet(self)

    def shapes(self, height: int, width: int) -> Shapes:
        return {"text_states": (TEXT_POSITIONS, self._width)}

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        noise: torch.Tensor = self._call(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=conditioning["text_states"],
            timestep_cond=conditioning.get("guidance_embed"),
            return_dict=False,
        )[0]
        return noise


class FreeUNet(TextUNet):
    """With FreeU, arXiv 2309.11497, which is on while it is called; never compiled."""

    def __init__(
        self, unet: UNet2DConditionModel, lora: RowLora, weights: Mapping[str, float]
    ) -> None:
        super().__init__(unet, RuntimeOptions(), lora)
        self._weights, self._plain = weights, self._call
        self._call = self._uncompiled = self._reweighted

    def _reweighted(self, **arguments: Any) -> Any:
        self._unet.enable_freeu(**self._weights)
        try:
            return self._plain(**arguments)
        finally:
            self._unet.disable_freeu()


class AdaptedUNet(TextUNet):
    """A UNet whose rows have adapters, each its own; never compiled."""

    def __init__(self, plain: TextUNet) -> None:
        super().__init__(plain._unet, RuntimeOptions(), plain.lora)
        self._call = plain._uncompiled

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        with self.lora.of_rows(conditioning[SLOTS], conditioning[SCALES]):
            return super().__call__(inputs, timesteps, conditioning)


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> InpaintingDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoints, by role: `weights`, and `safety_checker` if the model has it.
        entry: of the model.

    Raises:
        CheckpointError: the UNet takes neither four nor nine channels.
    """
    loader = loaders["weights"]
    unet = loader.model(UNet2DConditionModel, "unet")
    channels = unet.config.in_channels
    if channels not in INPUTS:
        raise CheckpointError(f"the UNet takes {channels} channels; it must be 4 or 9")
    like = torch.empty(0, device=loader.device, dtype=loader.dtype)
    adapters = Adapters(entry.adapters, "unet", unet, like)
    inpainter = Inpainter(
        TextUNet(unet, loader.runtime, adapters.lora),
        Schedulers(loader.scheduler()),
        INPUTS[channels],
        nearest_cells,
    )
    return InpaintingDecoder(
        entry.spec.reads[Stage.DECODER],
        entry.stage_samplers(Stage.DECODER)[0],
        inpainter,
        kl_autoencoder(loader),
        like,
        inpainter,
        adapters=adapters,
        checker=_checker(loaders["safety_checker"]) if "safety_checker" in loaders else None,
    )


def _checker(loader: Loader) -> SafetyChecker:
    return SafetyChecker(
        loader.model(StableDiffusionSafetyChecker, "safety_checker"),
        loader.processor(CLIPImageProcessor, "feature_extractor"),
        loader.device,
    )
