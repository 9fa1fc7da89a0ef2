"""Encoders of Kandinsky 2.2: CLIP text for the prior, CLIP vision for pictures."""

from collections.abc import Sequence

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
from kandinsky.wire.errors import invalid
from services.loading.loader import Loader


class Kandinsky22Encoders:
    """Text to the prior's conditioning, and pictures to image embeddings."""

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(CLIPTokenizer, "tokenizer")
        self._text_encoder = loader.model(CLIPTextModelWithProjection, "text_encoder")
        self._image_processor = loader.processor(CLIPImageProcessor, "image_processor")
        self._image_encoder = loader.model(CLIPVisionModelWithProjection, "image_encoder")
        self.zero_image_embed = tensors.from_torch(self._encode_zero())

    def check_text(self, text: str, field: str) -> None:
        """Refuses a text that the text encoder would have to cut.

        Raises:
            KandinskyError: INVALID_FIELD naming `field`.
        """
        count, most = len(self._tokenizer(text).input_ids), self._tokenizer.model_max_length
        if count > most:
            raise invalid(field, f"takes {count} tokens; the most is {most}")

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> list[encoders_pb2.TextEncoding]:
        """Encodes texts in one batch, each padded to the tokenizer's full length."""
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        # Like the reference, no attention mask goes to the text encoder: it attends to padding.
        encoded = self._text_encoder(tokens.input_ids.to(self._device))
        return [
            encoders_pb2.TextEncoding(
                prior=encoders_pb2.TextEmbedding(
                    text_embed=tensors.from_torch(embed),
                    text_states=tensors.from_torch(states),
                    text_mask=tensors.from_torch(mask.bool()),
                )
            )
            for embed, states, mask in zip(
                encoded.text_embeds, encoded.last_hidden_state, tokens.attention_mask, strict=True
            )
        ]

    @torch.inference_mode()
    def encode_images(
        self, pictures: Sequence[np.ndarray]
    ) -> list[encoders_pb2.EncodeImageResponse]:
        """Encodes pictures, each uint8 [H, W, 3], in one batch."""
        images = [Image.fromarray(picture) for picture in pictures]
        values = self._image_processor(images, return_tensors="pt").pixel_values
        encoder = self._image_encoder
        embeds = encoder(values.to(self._device, encoder.dtype)).image_embeds
        return [
            encoders_pb2.EncodeImageResponse(
                image_embed=tensors.from_torch(embed), zero_image_embed=self.zero_image_embed
            )
            for embed in embeds
        ]

    @torch.inference_mode()
    def _encode_zero(self) -> torch.Tensor:
        """[D]: the output for a zero tensor, which after preprocessing is no black picture."""
        encoder = self._image_encoder
        size = encoder.config.image_size
        zero = torch.zeros(1, 3, size, size, device=self._device, dtype=encoder.dtype)
        return encoder(zero).image_embeds[0]
