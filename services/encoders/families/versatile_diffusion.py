"""Encoders of Versatile Diffusion: the projected states of CLIP text and vision."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from services.encoders.clip import ClipTextEncoder
from services.encoders.composed import ComposedEncoders, ImageEncoder
from services.loading.loader import Loader

BLANK = np.full((512, 512, 3), 0.5)
"""What VersatileDiffusionImageVariationPipeline steers away from; its processor takes these for
levels of 255, so that the image is all but black."""


class ProjectedTextEncoder(ClipTextEncoder):
    """text_states [77, D]: each projected, and divided by the length of the pooled embedding."""

    def states(self, encoded: Any) -> torch.Tensor:
        projected: torch.Tensor = self.encoder.text_projection(encoded.last_hidden_state)
        length: torch.Tensor = encoded.text_embeds[:, None].norm(dim=-1, keepdim=True)
        return projected / length


class StatesImageEncoder(ImageEncoder):
    """image_states [257, D]: each projected, and divided by the length of the first."""

    zero_image_embed = None

    def __init__(self, loader: Loader) -> None:
        self._device = loader.device  # an offloaded network's own is another
        self._processor = loader.processor(CLIPImageProcessor, "image_feature_extractor")
        self._encoder = loader.model(CLIPVisionModelWithProjection, "image_encoder")
        self._blank = tensors.from_torch(self._encode([BLANK])[0])

    def encode(self, images: Sequence[np.ndarray]) -> list[encoders_pb2.EncodeImageResponse]:
        return [
            encoders_pb2.EncodeImageResponse(
                image_states=tensors.from_torch(states), blank_image_states=self._blank
            )
            for states in self._encode([Image.fromarray(image) for image in images])
        ]

    @torch.inference_mode()
    def _encode(self, images: Sequence[Any]) -> torch.Tensor:
        """[images, 257, D]."""
        values = self._processor(images, return_tensors="pt").pixel_values
        encoder = self._encoder
        encoded = encoder(values.to(self._device, encoder.dtype)).last_hidden_state
        states = encoder.visual_projection(encoder.vision_model.post_layernorm(encoded))
        found: torch.Tensor = states / states[:, :1].norm(dim=-1, keepdim=True)
        return found


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    loader = loaders["weights"]
    return ComposedEncoders(decoder=ProjectedTextEncoder(loader), image=StatesImageEncoder(loader))
