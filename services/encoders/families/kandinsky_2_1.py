"""Encoders of Kandinsky 2.1: CLIP as in 2.2, and multilingual CLIP for the decoder's UNet."""

from collections.abc import Mapping, Sequence

from diffusers.pipelines.kandinsky import MultilingualCLIP
from transformers import XLMRobertaTokenizer

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from services.encoders.clip import ClipImageEncoder, ClipTextEncoder
from services.encoders.composed import ComposedEncoders, TextEncoder
from services.loading.loader import Loader


class MultilingualTextEncoder(TextEncoder):
    """Multilingual CLIP: text_embed [D], text_states [77, S] and text_mask [77] of each text."""

    kind = "multilingual"
    most_tokens = 77
    """That the UNet was trained on: `max_length` in KandinskyPipeline._encode_prompt."""

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(XLMRobertaTokenizer, "tokenizer")
        self._encoder = loader.model(MultilingualCLIP, "text_encoder")

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
        embeds, states = self._encoder(
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


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoints, by role: `weights` has CLIP, `decoder_text` the other.
        entry: of the model.
    """
    loader = loaders["weights"]
    return ComposedEncoders(
        prior=ClipTextEncoder(loader),
        decoder=MultilingualTextEncoder(loaders["decoder_text"]),
        image=ClipImageEncoder(loader),
    )
