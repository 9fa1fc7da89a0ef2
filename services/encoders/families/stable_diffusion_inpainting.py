"""Encoders of Stable Diffusion inpainting: CLIP's text encoder for the decoder's UNet."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from kandinsky.catalog.adapters import AdapterFolder
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1 import adapters_pb2, encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.adapters.learned_tokens import LearnedTokens, expanded
from services.adapters.loras import Loras
from services.adapters.named import named, pin
from services.encoders.composed import ComposedEncoders, ImageEncoder, TextEncoder
from services.loading.loader import Loader


class ClipStatesEncoder(TextEncoder):
    """text_states [77, D] of each text: CLIP's last hidden states, normalised."""

    kind = ""

    def __init__(self, loader: Loader, adapters: AdapterFolder | None) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._tokenizer = loader.processor(CLIPTokenizer, "tokenizer")
        self._encoder = loader.model(CLIPTextModel, "text_encoder")
        self._adapters = adapters
        like = torch.empty(0, device=loader.device, dtype=loader.dtype)
        self._loras = Loras("text_encoder", self._encoder, like, attach=adapters is not None)
        self._learned = LearnedTokens(self._tokenizer, self._encoder.get_input_embeddings())
        if adapters is not None:
            self._learned.attach()
        self.most_tokens: int = self._tokenizer.model_max_length

    def count(self, text: str) -> int:
        return len(self._tokenizer(text).input_ids)

    def encode(self, texts: Sequence[str]) -> list[encoders_pb2.TextEmbedding]:
        # Like the reference, no attention mask goes to the text encoder: it attends to padding.
        ids = self._ids(texts, self._tokenizer)
        return _embeddings(self._encoder(ids).last_hidden_state)

    def encode_changed(
        self, texts: Sequence[str], clip_skip: int | None, adapters: Sequence[adapters_pb2.Adapter]
    ) -> list[encoders_pb2.TextEmbedding]:
        most = int(self._encoder.config.num_hidden_layers)
        if clip_skip is not None and clip_skip > most:
            raise invalid("clip_skip", f"is {clip_skip}; the text encoder has {most} layers")
        with self._changed(adapters, len(texts)) as tokenizer:
            ids = self._ids(self._checked(texts, tokenizer), tokenizer)
            encoded = self._encoder(ids, output_hidden_states=clip_skip is not None)
        if clip_skip is None:
            return _embeddings(encoded.last_hidden_state)
        return _embeddings(self._encoder.final_layer_norm(encoded.hidden_states[-1 - clip_skip]))

    def check_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> int:
        pin(self._adapters, adapters)
        learned = named(self._adapters, adapters, AdapterKind.TEXTUAL_INVERSION)
        loras = named(self._adapters, adapters, AdapterKind.LORA)
        with self._loras.hold(loras):
            changes = sum(map(self._loras.changes, loras))
        return changes + sum(len(self._learned.read(each).embeddings) for each in learned)

    @contextmanager
    def _changed(self, adapters: Sequence[adapters_pb2.Adapter], rows: int) -> Iterator[Any]:
        """The tokenizer for texts whose encoder is changed by adapters within the block."""
        pin(self._adapters, adapters)
        loras = named(self._adapters, adapters, AdapterKind.LORA)
        learned = named(self._adapters, adapters, AdapterKind.TEXTUAL_INVERSION)
        with (
            self._loras.hold(loras),
            self._learned.of_texts(learned) as tokenizer,
            self._loras.applied(self._loras.rows(loras, rows)),
        ):
            yield tokenizer

    def _checked(self, texts: Sequence[str], tokenizer: Any) -> list[str]:
        """Texts as the tokenizer takes them.

        Raises:
            KandinskyError: INVALID_FIELD for one that would have to be cut.
        """
        found = expanded(texts, tokenizer)
        for i, text in enumerate(found):
            self.check_count(len(tokenizer(text).input_ids), f"texts[{i}]")
        return found

    def _ids(self, texts: Sequence[str], tokenizer: Any) -> torch.Tensor:
        """[texts, 77]"""
        tokens: torch.Tensor = tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.most_tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return tokens.to(self._device)


def _embeddings(states: torch.Tensor) -> list[encoders_pb2.TextEmbedding]:
    return [encoders_pb2.TextEmbedding(text_states=tensors.from_torch(each)) for each in states]


class PromptImageEncoder(ImageEncoder):
    """What IP-Adapters read: image_embed [D], and image_states [P, D], the last states but one."""

    zero_image_embed = None

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._encoder = loader.model(CLIPVisionModelWithProjection, "image_encoder")
        side = self._encoder.config.image_size
        # As diffusers makes one: an image encoder of IP-Adapters is published without a processor.
        self._processor = CLIPImageProcessor(size=side, crop_size=side)
        zeros = torch.zeros(1, 3, side, side)
        self._blank = tensors.from_torch(self._encode(zeros)[1][0])

    def encode(self, images: Sequence[np.ndarray]) -> list[encoders_pb2.EncodeImageResponse]:
        files = [Image.fromarray(image) for image in images]
        embeds, states = self._encode(self._processor(files, return_tensors="pt").pixel_values)
        return [
            encoders_pb2.EncodeImageResponse(
                image_embed=tensors.from_torch(embed),
                image_states=tensors.from_torch(state),
                blank_image_states=self._blank,
            )
            for embed, state in zip(embeds, states, strict=True)
        ]

    @torch.inference_mode()
    def _encode(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[images, D] and [images, P, D]."""
        values = values.to(self._device, self._encoder.dtype)
        encoded = self._encoder(values, output_hidden_states=True)
        return encoded.image_embeds, encoded.hidden_states[-2]


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoints, by role: `weights`, and `image_encoder` if the model has it.
        entry: of the model.
    """
    text = ClipStatesEncoder(loaders["weights"], entry.adapter_folder)
    image = PromptImageEncoder(loaders["image_encoder"]) if "image_encoder" in loaders else None
    return ComposedEncoders(decoder=text, image=image)
