"""CLIP's two encoders, which several families share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from services.encoders.composed import ImageEncoder, TextEncoder
from services.loading.loader import Loader


class ClipTextEncoder(TextEncoder):
    """CLIP's text encoder with its projection."""

    kind = ""

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(CLIPTokenizer, "tokenizer")
        self.encoder = loader.model(CLIPTextModelWithProjection, "text_encoder")
        self.most_tokens: int = self._tokenizer.model_max_length

    def count(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def encode(self, texts: Sequence[str]) -> list[encoders_pb2.TextEmbedding]:
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.most_tokens,
            truncation=True,
            return_tensors="pt",
        )
        # Like the reference, no attention mask goes to the text encoder: it attends to padding.
        encoded = self.encoder(tokens.input_ids.to(self._device))
        return [
            encoders_pb2.TextEmbedding(
                text_embed=tensors.from_torch(embed),
                text_states=tensors.from_torch(states),
                text_mask=tensors.from_torch(mask.bool()),
            )
            for embed, states, mask in zip(
                encoded.text_embeds, self.states(encoded), tokens.attention_mask, strict=True
            )
        ]

    def states(self, encoded: Any) -> torch.Tensor:
        """[texts, L, D]: what attention reads, of the encoder's output."""
        found: torch.Tensor = encoded.last_hidden_state
        return found


class ClipImageEncoder(ImageEncoder):
    """CLIP's vision encoder with its projection.

    Args:
        loader: of its checkpoint.
        processor: the subfolder of its image processor.
    """

    def __init__(self, loader: Loader, processor: str = "image_processor") -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._processor = loader.processor(CLIPImageProcessor, processor)
        self._encoder = loader.model(CLIPVisionModelWithProjection, "image_encoder")
        self.zero_image_embed = tensors.from_torch(self._encode_zero())

    def encode(self, images: Sequence[np.ndarray]) -> list[encoders_pb2.EncodeImageResponse]:
        files = [Image.fromarray(image) for image in images]
        values = self._processor(files, return_tensors="pt").pixel_values
        embeds = self._encoder(values.to(self._device, self._encoder.dtype)).image_embeds
        return [
            encoders_pb2.EncodeImageResponse(
                image_embed=tensors.from_torch(embed), zero_image_embed=self.zero_image_embed
            )
            for embed in embeds
        ]

    @torch.inference_mode()
    def _encode_zero(self) -> torch.Tensor:
        """[D]: the output for a zero tensor, which after preprocessing is no black image."""
        size = self._encoder.config.image_size
        zero = torch.zeros(1, 3, size, size, device=self._device, dtype=self._encoder.dtype)
        embed: torch.Tensor = self._encoder(zero).image_embeds[0]
        return embed
