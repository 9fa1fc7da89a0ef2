"""What each flow can be told besides its subject; one left out, or None, takes the default."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from PIL import Image

from kandinsky.wire.tensors import Array

OutputFormat = Literal["png", "jpeg", "webp", "pixels", "float_pixels", "latents"]
Interpolation = Literal["linear", "spherical"]
PreviewMode = Literal["linear", "decode"]


@dataclass(frozen=True)
class Latents:
    """A picture as the latent that a flow's `latents` output gave."""

    array: Array
    """[C, h, w]."""


@dataclass(frozen=True)
class Embedding:
    """An image embedding, as one side of a mix."""

    array: Array
    """[D]."""


Picture = Image.Image | bytes | Path | Array | Latents
"""A PIL image, a file's bytes or path, pixels, or a latent. Pixels are uint8, or floats from -1 to
1; [H, W, 3] or [3, H, W], either with a leading 1."""
Mask = Image.Image | bytes | Path | Array
"""White is repainted. A picture, or [H, W], [1, H, W], [1, 1, H, W] or [H, W, 1] of bool, uint8 or
floats from 0 to 1."""
Condition = str | Picture | Embedding
"""One side of a mix; a str is a prompt."""


class GenerationOptions(TypedDict, total=False):
    """What every flow can be told."""

    model: str
    """Name of a model that the server lists. Default: `shapes`."""
    images_per_prompt: int | None
    height: int | None
    """Pixels."""
    width: int | None
    """Pixels."""
    steps: int | None
    """Denoising steps of the decoder."""
    guidance_scale: float | None
    """Of the decoder; 1 or less means none."""
    prior_steps: int | None
    prior_guidance_scale: float | None
    seed: int | None
    """Image i is drawn with `seed + i`. Left out: the server draws one and returns it."""
    scheduler: str | None
    """Of the decoder, such as `ddim`; see `kandinsky.catalog.schedulers`."""
    eta: float | None
    """DDIM's, 0 to 1."""
    progress_every: int | None
    """Steps between progress events. Left out: ten a second at most, fewer on a busy device."""
    preview_every: int | None
    """Steps between previews, which `stream` yields. Left out: none."""
    preview_mode: PreviewMode | None
    """`linear`, the default, costs next to nothing; `decode` a pass of the autoencoder each."""
    output_format: OutputFormat | None
    """Default: png. `pixels` is uint8 [H, W, 3], `float_pixels` float32 from 0 to 1."""
    output_quality: int | None
    """JPEG and WebP, 1 to 100."""
    latents: Any
    """Array [images, C, h, w]: initial noise of the decoder."""


class TextRouteOptions(GenerationOptions, total=False):
    """What flows with prompts can be told."""

    negative_prompts: str | Sequence[str] | None
    """None, one for all, or one a prompt."""
    prior_latents: Any
    """Array [images, D]: initial noise of the prior."""
    image_embeds: Any
    """Array [prompts, D]: image embeddings in place of prompts."""
    negative_image_embeds: Any
    """Array [1 or prompts, D]: in place of negative prompts."""


class TextToImageOptions(TextRouteOptions, total=False):
    """What text to image can be told besides its prompts."""


class ImageToImageOptions(TextRouteOptions, total=False):
    """What image to image can be told besides picture and prompts."""

    strength: float | None
    """Share of the steps that is run, above 0 up to 1."""
    prior_strength: float | None
    """The prior starts from the picture's embedding and runs this share of its steps."""


class InpaintOptions(TextRouteOptions, total=False):
    """What inpainting can be told besides picture, mask and prompts."""

    strength: float | None
    """Share of the steps that is run, above 0 up to 1."""
    padding_mask_crop: int | None
    """Pixels around the mask's box; only that part is made anew, at the full size."""


class OutpaintOptions(TextRouteOptions, total=False):
    """What outpainting can be told besides picture, prompts and margins."""

    strength: float | None
    """Share of the steps that is run, above 0 up to 1."""


class ControlOptions(ImageToImageOptions, total=False):
    """What control can be told besides hint and prompts."""

    image: Picture | Sequence[Picture] | None
    """What to start from. Left out: noise."""


class VariationOptions(GenerationOptions, total=False):
    """What variation can be told besides its picture."""

    negative_image_embeds: Any
    """Array [1 or images, D]."""
    prompt: str | None
    """For a decoder that reads text."""


class MixOptions(GenerationOptions, total=False):
    """What a mix can be told besides its conditions."""

    interpolation: Interpolation | None
    negative_prompt: str | None
    negative_prior_prompt: str | None
    prior_latents: Any
    """Array [images, D]."""
    negative_image_embed: Any
    """Array [D]."""
    prompt: str | None
    """For a decoder that reads text."""


class InterpolateFramesOptions(MixOptions, total=False):
    """What frames between two conditions can be told; `latents` and `prior_latents` are one row."""


class TextGuidedEditOptions(GenerationOptions, total=False):
    """What an edit can be told besides picture and texts."""

    amount: float | None
    """How far the embedding is turned toward the texts' difference, 0 to 1 of a right angle."""
    strength: float | None
    """Share of the steps that is run from the picture. Left out: it starts from noise."""
    negative_image_embed: Any
    """Array [D]."""
    prompt: str | None
    """For a decoder that reads text."""
