"""Encoders of Kandinsky 2.1: CLIP as in 2.2, and multilingual CLIP for the decoder's UNet."""

from collections.abc import Sequence

import torch
from diffusers.pipelines.kandinsky import MultilingualCLIP
from transformers import XLMRobertaTokenizer

from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.encoders.families.kandinsky_2_2 import Kandinsky22Encoders
from services.loading.loader import CheckpointError, Loader

POSITIONS = 77
"""Tokens that the UNet was trained on: `max_length` in KandinskyPipeline._encode_prompt."""


class Kandinsky21Encoders(Kandinsky22Encoders):
    """Text to the conditioning of the prior and of the decoder, pictures to image embeddings.

    Raises:
        CheckpointError: the catalog entry does not say where multilingual CLIP lies.
    """

    def __init__(self, loader: Loader) -> None:
        if loader.decoder_text is None:
            raise CheckpointError(
                "the encoders of this family need a decoder_text_checkpoint in the catalog"
            )
        super().__init__(loader)
        self._decoder_tokenizer = loader.decoder_text.processor(XLMRobertaTokenizer, "tokenizer")
        self._decoder_text_encoder = loader.decoder_text.model(MultilingualCLIP, "text_encoder")

    def check_text(self, text: str, field: str) -> None:
        """Refuses a text that one of the two text encoders would have to cut.

        Raises:
            KandinskyError: INVALID_FIELD naming `field`.
        """
        super().check_text(text, field)
        count = len(self._decoder_tokenizer(text).input_ids)
        if count > POSITIONS:
            raise invalid(field, f"takes {count} multilingual tokens; the most is {POSITIONS}")

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> list[encoders_pb2.TextEncoding]:
        """Encodes texts in one batch, each padded to the full length of its tokenizers."""
        encodings = super().encode_texts(texts)
        for encoding, decoder in zip(encodings, self._for_decoder(texts), strict=True):
            encoding.decoder.CopyFrom(decoder)
        return encodings

    def _for_decoder(self, texts: Sequence[str]) -> list[encoders_pb2.TextEmbedding]:
        """text_embed [D], text_states [77, S] and text_mask [77] of each text."""
        tokens = self._decoder_tokenizer(
            list(texts),
            padding="max_length",
            max_length=POSITIONS,
            truncation=True,
            return_tensors="pt",
        )
        embeds, states = self._decoder_text_encoder(
            input_ids=tokens.input_ids.to(self._device),
            attention_mask=tokens.attention_mask.to(self._device),
        )
        return [
            encoders_pb2.TextEmbedding(
                text_embed=tensors.from_torch(embed),
                text_states=tensors.from_torch(state),
                text_mask=tensors.from_torch(mask.bool()),
            )
            for embed, state, mask in zip(embeds, states, tokens.attention_mask, strict=True)
        ]
