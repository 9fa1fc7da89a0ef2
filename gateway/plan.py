"""What a checked request resolves to: every default applied, one entry an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.settings import Settings
from kandinsky.catalog.catalog import CatalogEntry
from kandinsky.v1 import tensor_pb2

EMPTY_TEXT = "negative_prompts"
"""Key of "" in `TextToImagePlan.texts`: what guidance leaves where nothing unwanted is named."""


@dataclass(frozen=True)
class ImagePlan:
    """One image of a request: one job for each sampler."""

    index: int
    """Prompt index x images per prompt + image index."""
    seed: int
    """The request's seed + index."""
    prompt: str | None = None
    """Key of its prompt in the plan's texts; None where an embedding stands in."""
    negative_prompt: str | None = None
    """Key of its negative prompt in the plan's texts; None where nothing is unwanted."""
    latents: tensor_pb2.Tensor | None = None
    """[C, h, w] initial noise of the decoder."""
    prior_latents: tensor_pb2.Tensor | None = None
    """[D] initial noise of the prior."""
    image_embed: tensor_pb2.Tensor | None = None
    """[D] in place of a prompt."""
    negative_image_embed: tensor_pb2.Tensor | None = None
    """[D] in place of a negative prompt."""


@dataclass(frozen=True)
class TextToImagePlan:
    """A text to image request that passed every check that needs no checkpoint."""

    entry: CatalogEntry
    settings: Settings
    texts: Mapping[str, str]
    """What to encode, by field path of the request; empty where embeddings were given."""
    images: tuple[ImagePlan, ...]
