"""Attention of a UNet to a text and to an image at once: Versatile Diffusion, arXiv 2211.08332."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel


class MixedAttention(torch.nn.Module):
    """Two transformers of one place in a UNet; what they add is mixed row by row.

    Args:
        text: attends to the text.
        image: attends to the image.
        tokens: of the text's states.
    """

    def __init__(self, text: torch.nn.Module, image: torch.nn.Module, tokens: int) -> None:
        super().__init__()
        self.text = text
        self.image = image
        self._tokens = tokens

    def forward(
        self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **unread: Any
    ) -> tuple[torch.Tensor]:
        """The features [rows, C, h, w] with what both add.

        Args:
            hidden_states: [rows, C, h, w].
            encoder_hidden_states: [rows, L, D], from `mixed_states`.
            unread: what UNets pass on besides; none of it is used in these.
        """
        text = encoder_hidden_states[:, : self._tokens]
        image = encoder_hidden_states[:, self._tokens : -1]
        ratio = encoder_hidden_states[:, -1, :1, None, None]
        from_text = self.text(hidden_states, text, return_dict=False)[0] - hidden_states
        from_image = self.image(hidden_states, image, return_dict=False)[0] - hidden_states
        return (from_text * ratio + from_image * (1 - ratio) + hidden_states,)


def mixed_states(text: torch.Tensor, image: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
    """What MixedAttention reads, [rows, L + P + 1, D].

    Args:
        text: [rows, L, D].
        image: [rows, P, D].
        ratio: [rows, 1], share of the text.
    """
    last = ratio[:, None].expand(-1, 1, text.shape[2])
    return torch.cat([text, image, last], dim=1)


def mix_attention(unet: UNet2DConditionModel, other: torch.nn.Module, tokens: int) -> None:
    """Let a UNet that attends to an image attend to a text too.

    Args:
        unet: attends to an image; changed in place.
        other: a network with transformers in the same places, which attend to a text.
        tokens: of the text's states.
    """
    found = [name for name, part in unet.named_modules() if isinstance(part, Transformer2DModel)]
    for name in found:
        text, image = other.get_submodule(name), unet.get_submodule(name)
        unet.set_submodule(name, MixedAttention(text, image, tokens))
