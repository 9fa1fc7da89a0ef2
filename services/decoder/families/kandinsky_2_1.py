"""The decoder of Kandinsky 2.1: a UNet that follows a text and an image embedding, and MoVQ."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from services.decoder.denoising import Noising
from services.decoder.families.kandinsky_2_2 import DenoisingNetwork, Kandinsky22Decoder
from services.loading.loader import Loader

TEXT_POSITIONS = 77
"""Tokens of the text's states, as KandinskyPipeline._encode_prompt pads them.

With another count a text would not be the one that the UNet was trained on, nor share forwards.
"""

DDPM = "ddpm"
DDPM_FOLDER = "ddpm_scheduler"
"""Where the published checkpoint holds a second scheduler, beside the DDIM one that it names."""


class TextImageNetwork(DenoisingNetwork):
    """The UNet as an engine Network; it attends to the text's states beside the image."""

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        # Like the reference, no attention mask goes in: the UNet attends to padding.
        return self._call(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=conditioning["text_states"],
            added_cond_kwargs={
                "text_embeds": conditioning["text_embed"],
                "image_embeds": conditioning["image_embed"],
            },
            return_dict=False,
        )[0]


class Kandinsky21Decoder(Kandinsky22Decoder):
    """Makes the phases of Decode, EncodeLatents and DecodeLatents calls."""

    network = TextImageNetwork
    repaint_blends = False  # KandinskyInpaintPipeline leaves kept cells to the UNet

    def __init__(self, loader: Loader, inpaint_loader: Loader | None = None) -> None:
        super().__init__(loader, inpaint_loader)
        self._ddpm = loader.scheduler(DDPM_FOLDER) if loader.has_scheduler(DDPM_FOLDER) else None

    def _new_scheduler(self, base: Any, name: str) -> Any:
        if name == DDPM and self._ddpm is not None:
            return super()._new_scheduler(self._ddpm, "")
        return super()._new_scheduler(base, name)

    def _noising(self, strength: float) -> Noising:
        return image_noising(strength, self._scheduler.config.num_train_timesteps)

    def _conditioning_shapes(self, unet: UNet2DConditionModel) -> dict[str, list[int]]:
        return {
            "image_embed": [unet.encoder_hid_proj.image_embeds.in_features],
            "text_embed": [unet.add_embedding.text_proj.in_features],
            "text_states": [TEXT_POSITIONS, unet.config.encoder_hid_dim],
        }


def image_noising(strength: float, timesteps: int) -> Noising:
    """How Kandinsky 2.1 noises the picture of image to image: betas and timestep of its own.

    As `KandinskyImg2ImgPipeline.add_noise` of diffusers, whose timestep would be -1, which is
    almost pure noise, at the least of strengths; it is 0 here.

    Args:
        strength: above 0 up to 1.
        timesteps: that the model was trained on.
    """
    betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float32)
    cumulated = torch.cumprod(1 - betas, dim=0)
    timestep = max(int(timesteps * strength) - 2, 0)

    def noising(clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        kept = cumulated[timestep].to(clean.device, clean.dtype)
        return kept**0.5 * clean + (1 - kept) ** 0.5 * noise

    return noising
