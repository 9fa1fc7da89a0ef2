"""The decoder of Kandinsky 2.1: a UNet that follows a text and an image embedding, and MoVQ."""

from collections.abc import Mapping
from typing import Any

import torch

from kandinsky.v1 import sampling_pb2
from services.checkpoints import Loader
from services.decoder.families.kandinsky_2_2 import DenoisingNetwork, Kandinsky22Decoder

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
        return self.unet(
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

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        self._ddpm = loader.scheduler(DDPM_FOLDER) if loader.has_scheduler(DDPM_FOLDER) else None

    def _new_scheduler(self, request: sampling_pb2.Sampling) -> Any:
        if request.scheduler == DDPM and self._ddpm is not None:
            return type(self._ddpm).from_config(self._ddpm.config)
        return super()._new_scheduler(request)

    def _conditioning_shapes(self) -> dict[str, list[int]]:
        unet = self._network.unet
        return {
            "image_embed": [unet.encoder_hid_proj.image_embeds.in_features],
            "text_embed": [unet.add_embedding.text_proj.in_features],
            "text_states": [TEXT_POSITIONS, unet.config.encoder_hid_dim],
        }
