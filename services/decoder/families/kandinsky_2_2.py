"""The decoder of Kandinsky 2.2: a UNet that follows an image embedding, and MoVQ.

The inpainting UNet is a second network beside it; the ControlNet checkpoint's UNet, which follows
a hint as well, stands in the UNet's place.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel, VQModel

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.decoder.latent_decoder import Denoiser, Inpainter, LatentDecoder
from services.diffusion.inpainting import InpaintInputs
from services.diffusion.movq import movq_autoencoder
from services.diffusion.network import Shapes
from services.diffusion.unet_network import UNetNetwork
from services.loading.loader import Loader
from services.samplers.schedulers import Schedulers


class ImageUNet(UNetNetwork):
    """Follows an image embedding; with a ControlNet checkpoint, a hint as well."""

    @property
    def takes_hint(self) -> bool:
        """Whether it follows a control hint."""
        return bool(self.unet.config.addition_embed_type == "image_hint")

    def shapes(self, height: int, width: int) -> Shapes:
        embed = {"image_embed": (self.unet.config.encoder_hid_dim,)}
        return {**embed, "hint": (3, height, width)} if self.takes_hint else embed

    def arguments(self, conditioning: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        added = {"image_embeds": conditioning["image_embed"]}
        if self.takes_hint:
            added["hint"] = conditioning["hint"]
        return {"encoder_hidden_states": None, "added_cond_kwargs": added}


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> LatentDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoints, by role: `weights`, and `inpaint` if the model has it. Its MoVQ
            is the same.
        entry: of the model.

    Raises:
        ValueError: the UNet follows a control hint and the entry does not say so, or the reverse.
    """
    loader = loaders["weights"]
    unet = ImageUNet(loader.model(UNet2DConditionModel, "unet"), loader.runtime)
    if unet.takes_hint and not entry.control:
        raise ValueError("this UNet draws by a control hint alone: set control to true")
    if entry.control and not unet.takes_hint:
        raise ValueError("control needs a UNet that follows a hint")
    return LatentDecoder(
        entry.spec.reads[Stage.DECODER],
        entry.stage_samplers(Stage.DECODER)[0],
        Denoiser(unet, Schedulers(loader.scheduler())),
        movq_autoencoder(loader.model(VQModel, "movq", is_autoencoder=True), loader),
        torch.empty(0, device=loader.device, dtype=loader.dtype),
        _inpainter(loaders["inpaint"]) if "inpaint" in loaders else None,
    )


def _inpainter(loader: Loader) -> Inpainter:
    unet = loader.model(UNet2DConditionModel, "unet")
    return Inpainter(
        ImageUNet(unet, loader.runtime, "inpaint unet"),
        Schedulers(loader.scheduler()),
        InpaintInputs(("latent", "masked_image", "kept"), blends=True),
    )
