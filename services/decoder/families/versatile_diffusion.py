"""The decoder of Versatile Diffusion: one UNet for text, image and both, and AutoencoderKL.

The published checkpoint holds a UNet that attends to images and one whose attention is to texts.
The reference exchanges their transformers for each of its pipelines; here both are in one UNet, so
that requests of every guide share its forwards.
"""

from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
    UNetFlatConditionModel,
)

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.wire.errors import invalid
from services.decoder.latent_decoder import Denoiser, LatentDecoder
from services.diffusion.kl_autoencoder import kl_autoencoder
from services.diffusion.mixed_attention import mix_attention, mixed_states
from services.diffusion.network import DenoisingNetwork, Shapes
from services.loading.denoising_call import denoising_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions
from services.samplers.schedulers import Schedulers

TEXT_POSITIONS, IMAGE_POSITIONS = 77, 257
"""Of the states of CLIP ViT-L/14's text encoder, and of its vision encoder at 224 pixels:
`condition_lengths` of DualTransformer2DModel."""


class MixedUNet(DenoisingNetwork):
    """[rows, C, h, w] to noise of the same shape; attends to a text and to an image.

    Args:
        unet: of diffusers, with mixed attention.
        runtime: how it is called.
    """

    name = "unet"

    def __init__(self, unet: UNet2DConditionModel, runtime: RuntimeOptions) -> None:
        self._width = int(unet.config.cross_attention_dim)
        self._call = denoising_call(unet, runtime)

    def shapes(self, height: int, width: int) -> Shapes:
        return {
            "text_states": (TEXT_POSITIONS, self._width),
            "image_states": (IMAGE_POSITIONS, self._width),
            "mix_ratio": (1,),
        }

    def prepare(self, conditioning: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All that is attended to, as one tensor.

        Raises:
            KandinskyError: INVALID_FIELD for a ratio outside 0 to 1.
        """
        ratio = conditioning["mix_ratio"]
        if not ((ratio >= 0) & (ratio <= 1)).all():
            raise invalid("conditioning.mix_ratio.data", "must be from 0 to 1")
        text, image = conditioning["text_states"], conditioning["image_states"]
        return {"states": mixed_states(text, image, ratio)}

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self._call(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=conditioning["states"],
            return_dict=False,
        )[0]


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> LatentDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    loader = loaders["weights"]
    unet = loader.unprepared(UNet2DConditionModel, "image_unet")
    mix_attention(unet, loader.unprepared(UNetFlatConditionModel, "text_unet"), TEXT_POSITIONS)
    loader.prepared(unet)
    return LatentDecoder(
        entry.spec.reads[Stage.DECODER],
        entry.stage_samplers(Stage.DECODER)[0],
        Denoiser(MixedUNet(unet, loader.runtime), Schedulers(loader.scheduler())),
        kl_autoencoder(loader),
        torch.empty(0, device=loader.device, dtype=loader.dtype),
    )
