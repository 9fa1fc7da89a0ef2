"""The decoder of Kandinsky 2.1: a UNet that follows a text and an image embedding, and MoVQ."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel, VQModel

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.decoder.latent_decoder import Denoiser, Inpainter, LatentDecoder
from services.diffusion.denoising import NoiseAdder
from services.diffusion.inpainting import InpaintInputs
from services.diffusion.movq import movq_autoencoder
from services.diffusion.network import Shapes
from services.diffusion.unet_network import UNetNetwork
from services.loading.loader import Loader
from services.samplers.schedulers import Schedulers

TEXT_POSITIONS = 77
"""Tokens of the text's states, as KandinskyPipeline._encode_prompt pads them.

With another count a text would not be the one that the UNet was trained on, nor share forwards.
"""

DDPM_FOLDER = "ddpm_scheduler"
"""Where the published checkpoint holds a second scheduler, beside the DDIM one that it names."""


class TextImageUNet(UNetNetwork):
    """Follows a text embedding and an image embedding, and attends to the text's states."""

    def shapes(self, height: int, width: int) -> Shapes:
        return {
            "image_embed": (self.unet.encoder_hid_proj.image_embeds.in_features,),
            "text_embed": (self.unet.add_embedding.text_proj.in_features,),
            "text_states": (TEXT_POSITIONS, self.unet.config.encoder_hid_dim),
        }

    def arguments(self, conditioning: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        # Like the reference, no attention mask goes in: the UNet attends to padding.
        return {
            "encoder_hidden_states": conditioning["text_states"],
            "added_cond_kwargs": {
                "text_embeds": conditioning["text_embed"],
                "image_embeds": conditioning["image_embed"],
            },
        }


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> LatentDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoints, by role: `weights`, and `inpaint` if the model has it. Its MoVQ
            is the same.
        entry: of the model.
    """
    loader = loaders["weights"]
    ddpm = {"ddpm": loader.scheduler(DDPM_FOLDER)} if loader.has_scheduler(DDPM_FOLDER) else {}
    schedulers = Schedulers(loader.scheduler(), ddpm)
    unet = TextImageUNet(loader.model(UNet2DConditionModel, "unet"), loader.runtime)
    return LatentDecoder(
        entry.spec.reads[Stage.DECODER],
        entry.stage_samplers(Stage.DECODER)[0],
        Denoiser(unet, schedulers),
        movq_autoencoder(loader.model(VQModel, "movq", is_autoencoder=True), loader),
        torch.empty(0, device=loader.device, dtype=loader.dtype),
        _inpainter(loaders["inpaint"], ddpm) if "inpaint" in loaders else None,
        partial(image_noise_adder, timesteps=schedulers.default.config.num_train_timesteps),
    )


def _inpainter(loader: Loader, ddpm: Mapping[str, object]) -> Inpainter:
    unet = loader.model(UNet2DConditionModel, "unet")
    return Inpainter(
        TextImageUNet(unet, loader.runtime, "inpaint unet"),
        Schedulers(loader.scheduler(), ddpm),
        # KandinskyInpaintPipeline leaves kept cells to the UNet.
        InpaintInputs(("latent", "masked_image", "kept"), blends=False),
    )


def image_noise_adder(strength: float, timesteps: int) -> NoiseAdder:
    """How Kandinsky 2.1 adds noise for image to image: betas and timestep of its own.

    As `KandinskyImg2ImgPipeline.add_noise` of diffusers, whose timestep would be -1, which is
    almost pure noise, at the least of strengths; it is 0 here.

    Args:
        strength: above 0 up to 1.
        timesteps: that the model was trained on.
    """
    betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float32)
    cumulated = torch.cumprod(1 - betas, dim=0)
    timestep = max(int(timesteps * strength) - 2, 0)

    def add_noise(clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        kept = cumulated[timestep].to(clean.device, clean.dtype)
        return kept**0.5 * clean + (1 - kept) ** 0.5 * noise

    return add_noise
