"""A request from a guide, a canvas, a control hint and options. The one place that builds one."""

from collections.abc import Mapping
from typing import Any, Unpack

from kandinsky.client.canvases import Canvas
from kandinsky.client.fields import put
from kandinsky.client.guides import Guide
from kandinsky.client.options import CombinationOptions, InputImages
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire.constraints import check
from kandinsky.wire.errors import invalid_fields

DEFAULT_MODEL = "shapes"

FIELDS: Mapping[str, str] = {
    "model": "model",
    "images_per_prompt": "images_per_prompt",
    "adapters": "adapters",
    "seed": "seed",
    "negative_prompts": "negative.texts",
    "negative_image_embeds": "negative.image_embeds",
    "negative_images": "negative.images",
    "prior_steps": "prior.steps",
    "prior_guidance_scale": "prior.guidance_scale",
    "prior_guidance_interval": "prior.guidance_interval",
    "prior_latents": "prior.latents",
    "prior_negative_texts": "prior.negative_texts",
    "prior_strength": "prior.start.strength",
    "prior_images": "prior.start.images",
    "prior_image_embeds": "prior.start.image_embeds",
    "decoder_texts": "decoder.texts",
    "decoder_negative_texts": "decoder.negative_texts",
    "height": "decoder.height",
    "width": "decoder.width",
    "steps": "decoder.steps",
    "guidance_scale": "decoder.guidance_scale",
    "guidance_interval": "decoder.guidance_interval",
    "step_cache_interval": "decoder.step_cache_interval",
    "preset": "decoder.preset",
    "scheduler": "decoder.scheduler",
    "eta": "decoder.eta",
    "timesteps": "decoder.timesteps",
    "sigmas": "decoder.sigmas",
    "clip_skip": "decoder.clip_skip",
    "free_u": "decoder.free_u",
    "latents": "decoder.latents",
    "super_resolution_steps": "super_resolution.steps",
    "super_resolution_latents": "super_resolution.latents",
    "output_format": "output.format",
    "output_quality": "output.quality",
    "progress_every": "events.progress_every",
    "preview_every": "events.preview_every",
    "preview_mode": "events.preview_mode",
}
"""The field of the request that each option sets."""


def build(
    guide: Guide,
    canvas: Canvas | None = None,
    control: InputImages | None = None,
    **options: Unpack[CombinationOptions],
) -> GenerateRequest:
    """The request for any combination.

    Args:
        guide: what the images show, from `kandinsky.client.guides`.
        canvas: where denoising starts, from `kandinsky.client.canvases`; None starts from noise.
        control: hints that the images keep to, such as depth maps; near is white.
        options: see `CombinationOptions`, but for those of the call.

    Raises:
        KandinskyError: INVALID_FIELD for values that the contract does not allow.
        OSError: an image file cannot be read.
        TypeError: an option is unknown.
    """
    if unknown := options.keys() - FIELDS.keys():
        raise TypeError(f"a request has no option {', '.join(sorted(unknown))}")
    request = GenerateRequest(model=DEFAULT_MODEL, guide=guide, canvas=canvas)
    put(request.control, {"hints": control}, "control")
    for option, value in options.items():
        if value is not None:
            group, _, name = FIELDS[option].rpartition(".")
            message: Any = request
            for part in filter(None, group.split(".")):
                message = getattr(message, part)
            put(message, {name: value}, group)
    if violations := check(request):
        raise invalid_fields(violations)
    return request
