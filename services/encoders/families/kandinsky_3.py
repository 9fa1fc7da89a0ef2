"""Encoders of Kandinsky 3: a T5 encoder for the decoder's UNet."""

from collections.abc import Mapping, Sequence

from transformers import T5EncoderModel, T5Tokenizer

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from services.encoders.composed import ComposedEncoders, TextEncoder
from services.loading.loader import Loader


class T5TextEncoder(TextEncoder):
    """text_states [128, D], zeros where padding stands, and text_mask [128] of each text."""

    kind = ""
    most_tokens = 128
    """`max_length` in Kandinsky3Pipeline.encode_prompt."""

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(T5Tokenizer, "tokenizer")
        self._encoder = loader.model(T5EncoderModel, "text_encoder")

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
        masks = tokens.attention_mask.to(self._device)
        encoded = self._encoder(tokens.input_ids.to(self._device), attention_mask=masks)
        return [
            encoders_pb2.TextEmbedding(
                text_states=tensors.from_torch(states * mask.unsqueeze(1)),
                text_mask=tensors.from_torch(mask.bool()),
            )
            for states, mask in zip(encoded.last_hidden_state, masks, strict=True)
        ]


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    return ComposedEncoders(decoder=T5TextEncoder(loaders["weights"]))
