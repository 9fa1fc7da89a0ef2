"""The decoder of Stable Diffusion inpainting: a UNet that attends to a text, and AutoencoderKL."""

from collections.abc import Mapping

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.decoder.inpainting_decoder import InpaintingDecoder
from services.decoder.latent_decoder import Inpainter
from services.diffusion.autoencoder import kl_autoencoder
from services.diffusion.inpainting import InpaintInputs
from services.diffusion.masks import nearest_cells
from services.diffusion.network import DenoisingNetwork, Shapes
from services.loading.denoising_call import denoising_call
from services.loading.loader import CheckpointError, Loader
from services.loading.runtime_options import RuntimeOptions
from services.samplers.schedulers import Schedulers

TEXT_POSITIONS = 77
"""Tokens of the text's states: CLIP's `model_max_length`."""
INPUTS: Mapping[int, InpaintInputs] = {
    4: InpaintInputs(("latent",), blends=True),
    9: InpaintInputs(("latent", "hole", "masked_image"), blends=False),
}
"""By the UNet's input channels: one of text to image, and one that was trained to inpaint."""


class TextUNet(DenoisingNetwork):
    """[rows, 4 or 9, h, w] to noise [rows, 4, h, w]; attends to the text's states."""

    name = "unet"

    def __init__(self, unet: UNet2DConditionModel, runtime: RuntimeOptions) -> None:
        self._width = int(unet.config.cross_attention_dim)
        self._call = denoising_call(unet, runtime)

    def shapes(self, height: int, width: int) -> Shapes:
        return {"text_states": (TEXT_POSITIONS, self._width)}

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self._call(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=conditioning["text_states"],
            return_dict=False,
        )[0]


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> InpaintingDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.

    Raises:
        CheckpointError: the UNet takes neither four nor nine channels.
    """
    loader = loaders["weights"]
    unet = loader.model(UNet2DConditionModel, "unet")
    channels = unet.config.in_channels
    if channels not in INPUTS:
        raise CheckpointError(f"the UNet takes {channels} channels; it must be 4 or 9")
    inpainter = Inpainter(
        TextUNet(unet, loader.runtime),
        Schedulers(loader.scheduler()),
        INPUTS[channels],
        nearest_cells,
    )
    return InpaintingDecoder(
        entry.spec.reads[Stage.DECODER],
        entry.stage_samplers(Stage.DECODER)[0],
        inpainter,
        kl_autoencoder(loader.model(AutoencoderKL, "vae", is_autoencoder=True), loader),
        torch.empty(0, device=loader.device, dtype=loader.dtype),
        inpainter,
    )
