"""Types of what a caller passes to the SDK, and the options that requests share.

An option left out, or None, takes the default that the contract names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from PIL import Image

from kandinsky.client.events import Progress
from kandinsky.wire.tensors import Array

OutputFormat = Literal["png", "jpeg", "webp", "pixels", "float_pixels", "latents"]
Interpolation = Literal["linear", "spherical"]
PreviewMode = Literal["linear", "decode"]
Preset = Literal["exact", "balanced", "fast"]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Latents:
    """An image as the latent that `output_format="latents"` returned."""

    array: Array
    """[C, h, w]."""


@dataclass(frozen=True)
class Embedding:
    """An image embedding, as a conditioning source."""

    array: Array
    """[D]."""


InputImage = Image.Image | bytes | Path | Array | Latents
"""A PIL image, a file's bytes or path, pixels, or a latent. Pixels are uint8, or floats from -1 to
1; [H, W, 3] or [3, H, W], either with a leading 1."""
InputImages = InputImage | Sequence[InputImage]
"""One, or one for each item of the guide."""
Mask = Image.Image | bytes | Path | Array
"""White is generated. An image, or [H, W], [1, H, W], [1, 1, H, W] or [H, W, 1] of bool, uint8 or
floats from 0 to 1."""
Masks = Mask | Sequence[Mask]
"""One, or one for each item of the guide."""
Texts = str | Sequence[str]
"""One, or one for each item of the guide."""
ConditioningSource = str | InputImage | Embedding
"""What an image embedding is made from; a str is a prompt."""


@dataclass(frozen=True)
class ImagePrompt:
    """What an IP-Adapter shows: images, or what an image encoder made of them."""

    images: InputImages | None = None
    """At most 8, and 16 in a request."""
    scale: float | None = None
    """How much of it; None is all."""
    image_embeds: Any = None
    """[N, D] pooled and projected, for adapters that read those."""
    negative_image_embeds: Any = None
    """[N, D], or [1, D] for all: what guidance steers away from; None for zeros."""
    image_states: Any = None
    """[N, P, D] last states but one, for adapters that read those."""
    negative_image_states: Any = None
    """[N, P, D], or [1, P, D] for all: of a blank image."""

    def values(self) -> Mapping[str, Any]:
        """Of the fields of an Adapter."""
        shown = {
            "images": self.images,
            "image_embeds": self.image_embeds,
            "negative_image_embeds": self.negative_image_embeds,
            "image_states": self.image_states,
            "negative_image_states": self.negative_image_states,
        }
        return {"scale": self.scale, "image_prompt": shown}


class Conditioning(TypedDict, total=False):
    """Embeddings in place of what encoders and prior make; see `Conditioning` of the contract.

    Each is an array, or what numpy makes one of; D is the width of the checkpoint's embeddings.
    """

    image_embed: Any
    """[D]."""
    negative_image_embed: Any
    """[D]."""
    text_embed: Any
    """[D]."""
    negative_text_embed: Any
    """[D]."""
    text_states: Any
    """[L, D], L tokens."""
    negative_text_states: Any
    """[L, D]."""
    text_mask: Any
    """[L] bool."""
    negative_text_mask: Any
    """[L] bool."""
    image_states: Any
    """[P, D], P patches."""
    negative_image_states: Any
    """[P, D]."""


class CallOptions(TypedDict, total=False):
    """How a call is made; no part of the request."""

    on_progress: OnProgress | None
    """Called after each step, in the caller's thread or event loop."""
    timeout: float | None
    """Seconds, above 0, in place of the client's own."""
    request_id: str | None
    """Printable ASCII; stands in the server's logs."""


class GenerationOptions(CallOptions, total=False):
    """What every request takes."""

    model: str
    """Name of a model that the server lists. Default: `shapes`."""
    images_per_prompt: int | None
    """Images for each item of the guide."""
    seed: int | None
    """Image i is drawn with `seed + i`. Left out: the server draws one and returns it."""
    height: int | None
    """Pixels."""
    width: int | None
    """Pixels."""
    steps: int | None
    """Denoising steps of the decoder."""
    guidance_scale: float | None
    """Of the decoder; 1 or less means none."""
    guidance_interval: tuple[float, float] | None
    """Guidance of the decoder is on at these noise levels alone, 0 (clean) to 1 (noise)."""
    step_cache_interval: int | None
    """The decoder's deep blocks are computed every so many steps, 1 to 10."""
    preset: Preset | None
    """A choice of the two: see docs/quality.md. Default: exact."""
    scheduler: str | None
    """Of the decoder, such as `ddim`; see `kandinsky.catalog.schedulers`."""
    eta: float | None
    """DDIM's, 0 to 1."""
    timesteps: Sequence[int] | None
    """Of the decoder's steps, in falling order, in place of `steps`; some families have them."""
    sigmas: Sequence[float] | None
    """Noise levels of the decoder's steps; as `timesteps`."""
    clip_skip: int | None
    """Layers of the text encoder that are left out at its end; some families have it."""
    adapters: Mapping[str, float | ImagePrompt | None] | Sequence[str] | None
    """Names of adapters of the model, or how much of each LoRA, 1 or None being all of it, and what
    an IP-Adapter shows."""
    free_u: Mapping[str, float] | None
    """Weights `b1`, `b2`, `s1`, `s2` of the UNet, arXiv 2309.11497; some families have them."""
    latents: Any
    """Array [images, C, h, w], or one row for all: initial noise of the decoder."""
    prior_steps: int | None
    """Denoising steps of the prior."""
    prior_guidance_scale: float | None
    """Of the prior; 1 or less means none."""
    prior_guidance_interval: tuple[float, float] | None
    """As `guidance_interval`, of the prior."""
    prior_latents: Any
    """Array [images, D], or one row for all: initial noise of the prior."""
    super_resolution_steps: int | None
    """Denoising steps of super-resolution, of models that have it."""
    super_resolution_latents: Any
    """Array [images, C, H, W], or one row for all: initial noise of super-resolution."""
    output_format: OutputFormat | None
    """Default: png. `pixels` is uint8 [H, W, 3], `float_pixels` float32 from 0 to 1."""
    output_quality: int | None
    """JPEG and WebP, 1 to 100."""
    progress_every: int | None
    """Steps between progress events. Left out: ten a second at most, fewer on a busy device."""
    preview_every: int | None
    """Steps between previews, which `stream` yields. Left out: none."""
    preview_mode: PreviewMode | None
    """`linear`, the default, costs next to nothing; `decode` a pass of the autoencoder each."""


class PromptOptions(GenerationOptions, total=False):
    """What flows guided by prompts take."""

    negative_prompts: Texts | None
    """None, one for all, or one for each prompt."""
    image_embeds: Any
    """Array [items, D]: image embeddings in place of prompts."""
    negative_image_embeds: Any
    """Array [1 or items, D]: in place of negative prompts."""


class CombinationOptions(GenerationOptions, total=False):
    """What a combination of guide, canvas and control takes."""

    negative_prompts: Texts | None
    """None, one for all, or one for each item of the guide."""
    negative_image_embeds: Any
    """Array [1 or items, D]: image embeddings to steer away from, in place of texts."""
    negative_images: InputImages | None
    """One for all, or one for each item, for a decoder that attends to an image."""
    prior_negative_texts: Texts | None
    """What prior runs steer away from. Left out: `negative_prompts` for prompts, else nothing."""
    prior_strength: float | None
    """The prior starts from an image embedding and runs this share of its steps."""
    prior_images: InputImages | None
    """Images that the prior starts from. Left out, with `prior_strength`: those of the canvas."""
    prior_image_embeds: Any
    """Array [1 or items, D]: in place of `prior_images`."""
    decoder_texts: Texts | None
    """For a decoder that reads text. Left out: the guide's prompts, of a text diff its target."""
    decoder_negative_texts: Texts | None
    """What such a decoder steers away from. Left out: `negative_prompts`."""
