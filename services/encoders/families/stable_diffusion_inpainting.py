"""Encoders of Stable Diffusion inpainting: CLIP's text encoder for the decoder's UNet."""

from collections.abc import Mapping, Sequence

from transformers import CLIPTextModel, CLIPTokenizer

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from services.encoders.composed import ComposedEncoders, TextEncoder
from services.loading.loader import Loader


class ClipStatesEncoder(TextEncoder):
    """text_states [77, D] of each text: CLIP's last hidden states, normalised."""

    kind = ""

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(CLIPTokenizer, "tokenizer")
        self._encoder = loader.model(CLIPTextModel, "text_encoder")
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
        encoded = self._encoder(tokens.input_ids.to(self._device))
        return [
            encoders_pb2.TextEmbedding(text_states=tensors.from_torch(states))
            for states in encoded.last_hidden_state
        ]


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    return ComposedEncoders(decoder=ClipStatesEncoder(loaders["weights"]))
