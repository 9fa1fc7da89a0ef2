"""Encoders of Stable Diffusion inpainting: CLIP's text encoder for the decoder's UNet."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import encoders_pb2, sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.adapters.adapters import SCALES, SLOTS, Adapters
from services.encoders.composed import ComposedEncoders, TextEncoder
from services.loading.loader import Loader


class ClipStatesEncoder(TextEncoder):
    """text_states [77, D] of each text: CLIP's last hidden states, normalised."""

    kind = ""

    def __init__(self, loader: Loader, adapters: Path | None) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(CLIPTokenizer, "tokenizer")
        self._encoder = loader.model(CLIPTextModel, "text_encoder")
        like = torch.empty(0, device=loader.device, dtype=loader.dtype)
        self._adapters = Adapters(adapters, "text_encoder", self._encoder, like)
        self.most_tokens: int = self._tokenizer.model_max_length

    def count(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def encode(self, texts: Sequence[str]) -> list[encoders_pb2.TextEmbedding]:
        # Like the reference, no attention mask goes to the text encoder: it attends to padding.
        return _embeddings(self._encoder(self._tokens(texts)).last_hidden_state)

    def encode_changed(
        self, texts: Sequence[str], clip_skip: int | None, adapters: Sequence[sampling_pb2.Adapter]
    ) -> list[encoders_pb2.TextEmbedding]:
        most = int(self._encoder.config.num_hidden_layers)
        if clip_skip is not None and clip_skip > most:
            raise invalid("clip_skip", f"is {clip_skip}; the text encoder has {most} layers")
        self._adapters.load(adapters)
        rows = self._adapters.rows(adapters, len(texts))
        of_rows = self._adapters.lora.of_rows(rows[SLOTS], rows[SCALES]) if rows else nullcontext()
        with of_rows:
            encoded = self._encoder(self._tokens(texts), output_hidden_states=clip_skip is not None)
        if clip_skip is None:
            return _embeddings(encoded.last_hidden_state)
        return _embeddings(self._encoder.final_layer_norm(encoded.hidden_states[-1 - clip_skip]))

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """[texts, 77]"""
        tokens: torch.Tensor = self._tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.most_tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return tokens.to(self._device)


def _embeddings(states: torch.Tensor) -> list[encoders_pb2.TextEmbedding]:
    return [encoders_pb2.TextEmbedding(text_states=tensors.from_torch(each)) for each in states]


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    return ComposedEncoders(decoder=ClipStatesEncoder(loaders["weights"], entry.adapters))
