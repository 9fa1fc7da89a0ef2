"""The decoder of Kandinsky 3: a UNet that attends to the states of a T5 encoder, and MoVQ."""

from collections.abc import Mapping

import torch
from diffusers import Kandinsky3UNet, VQModel
from diffusers.models.unets.unet_kandinsky3 import Kandinsky3AttentionPooling

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.decoder.latent_decoder import Denoiser, LatentDecoder
from services.diffusion.movq import movq_autoencoder
from services.diffusion.network import DenoisingNetwork, Shapes
from services.loading.denoising_call import denoising_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions
from services.samplers.schedulers import Schedulers

TEXT_POSITIONS = 128
"""Tokens of the text's states: `max_length` in Kandinsky3Pipeline.encode_prompt."""
PADDING, PAST_END = 0.0, -1.0
"""Of a mask that is 1 at tokens: a position that the reference keeps, and one that it cuts off."""
CUT = -15_000.0
"""Kandinsky3UNet adds (1 - mask) * -10,000 to attention scores; below this a position is cut."""


class CutPooling(torch.nn.Module):
    """Kandinsky3AttentionPooling whose query is the mean over the positions that are not cut off.

    The reference takes it over every position that there is, and cuts a batch after its longest
    prompt: there an image depends on what it is batched with.
    """

    def __init__(self, pooling: Kandinsky3AttentionPooling) -> None:
        super().__init__()
        self.attention = pooling.attention

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor
    ) -> torch.Tensor:
        """Add the pooled context to the time embedding.

        Args:
            x: [rows, T] time embedding.
            context: [rows, L, D] projected states.
            context_mask: [rows, 1, L], added to attention scores.
        """
        kept = (context_mask > CUT).to(context.dtype).transpose(1, 2)
        mean = (context * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True)
        pooled: torch.Tensor = self.attention(mean, context, context_mask.to(context.dtype))
        return x + pooled.squeeze(1)


class TextUNet(DenoisingNetwork):
    """[rows, C, h, w] to noise of the same shape; attends to the text's states."""

    name = "unet"

    def __init__(self, unet: Kandinsky3UNet, runtime: RuntimeOptions) -> None:
        unet.add_time_condition = CutPooling(unet.add_time_condition)
        self._width = int(unet.config.encoder_hid_dim)
        self._call = denoising_call(unet, runtime)

    def shapes(self, height: int, width: int) -> Shapes:
        return {"text_states": (TEXT_POSITIONS, self._width), "text_mask": (TEXT_POSITIONS,)}

    def prepare(self, conditioning: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Mark what the reference cuts off: all that is past a text's tokens and one position more.

        Its negative prompt is cut where the prompt is, which here a longer one is not.
        """
        states, mask = conditioning["text_states"], conditioning["text_mask"]
        length = mask.sum(dim=1, keepdim=True) + 1
        cut = torch.arange(mask.shape[1], device=mask.device) >= length.maximum(length[-1])
        marked = torch.where(mask, 1.0, torch.where(cut, PAST_END, PADDING))
        return {"text_states": states, "text_mask": marked.to(states.dtype)}

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
            encoder_attention_mask=conditioning["text_mask"],
            return_dict=False,
        )[0]


def guidance(
    unconditional: torch.Tensor, conditional: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """(1 + scale) * cond - scale * uncond: arXiv 2207.12598 eq. 6 with w = scale."""
    return (1 + scale) * conditional - scale * unconditional


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> LatentDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    loader = loaders["weights"]
    return LatentDecoder(
        entry.spec.reads[Stage.DECODER],
        entry.stage_samplers(Stage.DECODER)[0],
        Denoiser(
            TextUNet(loader.model(Kandinsky3UNet, "unet"), loader.runtime),
            Schedulers(loader.scheduler()),
        ),
        movq_autoencoder(loader.model(VQModel, "movq", is_autoencoder=True), loader),
        torch.empty(0, device=loader.device, dtype=loader.dtype),
        rule=guidance,
    )
