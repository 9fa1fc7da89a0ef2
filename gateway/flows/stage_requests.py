"""A planned image as the stages' requests, and where their fields come from."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.plan import EMPTY_TEXT, ImagePlan, TextToImagePlan
from gateway.stages import EncodedTexts
from kandinsky.v1 import (
    conditioning_pb2,
    decoder_pb2,
    encoders_pb2,
    generation_pb2,
    prior_pb2,
    sampling_pb2,
)

PRIOR_FIELDS: Mapping[str, str] = {
    "conditioning": "prompts",
    "latents": "prior_latents",
    "sampling.steps": "settings.prior_steps",
    "sampling.guidance_scale": "settings.prior_guidance_scale",
    "sampling.seed": "settings.seed",
}
"""Public field paths of a SampleEmbeddingRequest."""

DECODER_FIELDS: Mapping[str, str] = {
    "conditioning.image_embed": "image_embeds",
    "conditioning.negative_image_embed": "negative_image_embeds",
    "conditioning.text_embed": "prompts",
    "conditioning.negative_text_embed": "prompts",
    "canvas.noise.latents": "latents",
    "canvas.height": "settings.height",
    "canvas.width": "settings.width",
    "sampling.steps": "settings.steps",
    "sampling.guidance_scale": "settings.guidance_scale",
    "sampling.seed": "settings.seed",
    "sampling.scheduler": "settings.scheduler",
}
"""Public field paths of a DecodeRequest."""

_OUTPUTS: Mapping[int, decoder_pb2.DecodeOutput] = {
    generation_pb2.OUTPUT_FORMAT_FLOAT_PIXELS: decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS,
    generation_pb2.OUTPUT_FORMAT_LATENTS: decoder_pb2.DECODE_OUTPUT_LATENTS,
}


def prior_requests(
    plan: TextToImagePlan, image: ImagePlan, texts: EncodedTexts
) -> dict[str, prior_pb2.SampleEmbeddingRequest]:
    """The prior runs of an image, by the field of the decoder's conditioning that each fills.

    A negative prompt is steered away from with an image embedding too, so it has a run of its
    own, as in `KandinskyV22PriorPipeline.__call__` of diffusers.
    """
    settings = plan.settings.prior
    if settings is None or image.prompt is None:
        return {}
    prompts = {"image_embed": image.prompt}
    if plan.settings.guided and image.negative_prompt and image.negative_image_embed is None:
        prompts["negative_image_embed"] = image.negative_prompt
    unwanted = image.negative_prompt or EMPTY_TEXT
    requests = {}
    for field, prompt in prompts.items():
        request = prior_pb2.SampleEmbeddingRequest(
            sampling=sampling_pb2.Sampling(
                steps=settings.steps, guidance_scale=settings.guidance_scale, seed=image.seed
            ),
            latents=image.prior_latents,
        )
        _put(request.conditioning, texts.encodings[prompt].prior)
        if plan.settings.prior_guided:
            _put(request.conditioning, texts.encodings[unwanted].prior, "negative_")
        requests[field] = request
    return requests


def decode_request(
    plan: TextToImagePlan, image: ImagePlan, texts: EncodedTexts
) -> decoder_pb2.DecodeRequest:
    """The decoder's job for an image, with all the conditioning that no prior has to sample."""
    settings = plan.settings
    request = decoder_pb2.DecodeRequest(
        conditioning=conditioning_pb2.Conditioning(image_embed=image.image_embed),
        sampling=sampling_pb2.Sampling(
            steps=settings.steps, guidance_scale=settings.guidance_scale, seed=image.seed
        ),
        canvas=sampling_pb2.Canvas(
            height=settings.height,
            width=settings.width,
            noise=sampling_pb2.NoiseCanvas(latents=image.latents),
        ),
        output=_OUTPUTS.get(settings.output.format, decoder_pb2.DECODE_OUTPUT_PIXELS),
    )
    conditioning = request.conditioning
    if image.prompt is not None:
        _put(conditioning, texts.encodings[image.prompt].decoder)
    if not settings.guided:
        return request
    if image.prompt is not None:
        unwanted = image.negative_prompt or EMPTY_TEXT
        _put(conditioning, texts.encodings[unwanted].decoder, "negative_")
    if image.negative_image_embed is not None:
        conditioning.negative_image_embed.CopyFrom(image.negative_image_embed)
    elif image.negative_prompt is None and texts.zero_image_embed is not None:
        conditioning.negative_image_embed.CopyFrom(texts.zero_image_embed)
    return request


def take_embedding(
    request: decoder_pb2.DecodeRequest,
    result: generation_pb2.GeneratedImage,
    field: str,
    sampled: prior_pb2.SampledEmbedding,
) -> None:
    """Puts what a prior run sampled where the decoder, and the caller, read it."""
    getattr(request.conditioning, field).CopyFrom(sampled.image_embed)
    if field != "image_embed":
        return
    result.prior_stats.CopyFrom(sampled.stats)
    if sampled.HasField("generator_state"):
        request.generator_state.CopyFrom(sampled.generator_state)


def _put(
    conditioning: conditioning_pb2.Conditioning,
    text: encoders_pb2.TextEmbedding,
    prefix: str = "",
) -> None:
    for descriptor, part in text.ListFields():
        getattr(conditioning, prefix + descriptor.name).CopyFrom(part)
