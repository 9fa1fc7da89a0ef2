"""A planned image as the stages' requests, and where their fields come from."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import embeddings
from gateway.plan import EMPTY_TEXT, Guide, ImagePlan, Plan, Source
from gateway.stages.stages import Encoded
from kandinsky.v1 import (
    conditioning_pb2,
    decoder_pb2,
    encoders_pb2,
    generation_pb2,
    prior_pb2,
    sampling_pb2,
    tensor_pb2,
)
from kandinsky.wire.errors import invalid

_PRIOR_FIELDS: Mapping[str, str] = {
    "latents": "prior_latents",
    "start_embed": "prior_strength",
    "strength": "prior_strength",
    "sampling.steps": "settings.prior_steps",
    "sampling.guidance_scale": "settings.prior_guidance_scale",
    "sampling.seed": "settings.seed",
    "sampling.progress_every": "settings.progress_every",
}
_DECODER_FIELDS: Mapping[str, str] = {
    "canvas.height": "settings.height",
    "canvas.width": "settings.width",
    "sampling.steps": "settings.steps",
    "sampling.guidance_scale": "settings.guidance_scale",
    "sampling.seed": "settings.seed",
    "sampling.scheduler": "settings.scheduler",
    "sampling.eta": "settings.eta",
    "sampling.progress_every": "settings.progress_every",
    "preview_every": "settings.preview_every",
    "preview_mode": "settings.preview_mode",
}
_OUTPUTS: Mapping[int, decoder_pb2.DecodeOutput] = {
    generation_pb2.OUTPUT_FORMAT_FLOAT_PIXELS: decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS,
    generation_pb2.OUTPUT_FORMAT_LATENTS: decoder_pb2.DECODE_OUTPUT_LATENTS,
}
Sampled = Mapping[Source, prior_pb2.SampledEmbedding]


def prior_fields(source: Source) -> dict[str, str]:
    """Paths in the public request, by the start of the path in a prior run's request."""
    return {"conditioning": source.field, **_PRIOR_FIELDS}


def decoder_fields(image: ImagePlan) -> dict[str, str]:
    """Paths in the public request, by the start of the path in an image's DecodeRequest."""
    guide = image.guide
    fields = {**_DECODER_FIELDS, **image.start.fields}
    if guide.terms:
        fields["conditioning.image_embed"] = guide.terms[0].source.field
    else:
        fields["conditioning.image_embed"] = guide.text or ""
    if guide.negative is not None:
        fields["conditioning.negative_image_embed"] = guide.negative.field
    for name in ("text_embed", "text_states"):
        fields[f"conditioning.{name}"] = guide.text or "prompts"
        fields[f"conditioning.negative_{name}"] = guide.negative_text or guide.text or "prompts"
    return fields


def check_widths(plan: Plan, encoded: Encoded) -> None:
    """Refuses embeddings of another width than the encoders', before anything is sampled.

    Raises:
        KandinskyError: INVALID_FIELD.
    """
    if encoded.zero_image_embed is None:
        return
    width = encoded.zero_image_embed.shape[0]
    for guide in (image.guide for image in plan.images):
        sources = [*(term.source for term in guide.terms), guide.negative]
        for source in sources:
            if source is not None and source.embed is not None and source.embed.shape[0] != width:
                raise invalid(f"{source.field}.shape", f"its embeddings must be {width} wide")


def prior_requests(
    plan: Plan, image: ImagePlan, encoded: Encoded
) -> dict[Source, prior_pb2.SampleEmbeddingRequest]:
    """The prior runs of an image, by what asks for them.

    A negative prompt is steered away from with an image embedding too, so it has a run of its
    own, as in `KandinskyV22PriorPipeline.__call__` of diffusers.
    """
    sources = [term.source for term in image.guide.terms if term.weight]
    if plan.settings.guided and image.guide.negative is not None:
        sources.append(image.guide.negative)
    return {
        source: _prior_request(plan, image, source.text, encoded)
        for source in sources
        if source.text is not None
    }


def _prior_request(
    plan: Plan, image: ImagePlan, text: str, encoded: Encoded
) -> prior_pb2.SampleEmbeddingRequest:
    settings, guide = plan.settings.prior, image.guide
    if settings is None:
        raise ValueError("a text needs the prior, but the plan has no settings for it")
    request = prior_pb2.SampleEmbeddingRequest(
        sampling=sampling_pb2.Sampling(
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            seed=image.seed,
            progress_every=plan.settings.progress_every,
        ),
        latents=image.prior_latents,
    )
    _put(request.conditioning, encoded.texts[text].prior)
    if plan.settings.prior_guided:
        _put(request.conditioning, encoded.texts[guide.unwanted or EMPTY_TEXT].prior, "negative_")
    if guide.prior_start is not None:
        request.start_embed.CopyFrom(encoded.pictures[guide.prior_start.picture])
        request.strength = guide.prior_start.strength
    return request


def decode_request(
    plan: Plan, image: ImagePlan, encoded: Encoded, sampled: Sampled
) -> decoder_pb2.DecodeRequest:
    """The decoder's job for an image.

    Raises:
        KandinskyError: INVALID_FIELD if embeddings that a request gave do not fit together.
    """
    settings, guide = plan.settings, image.guide
    request = decoder_pb2.DecodeRequest(
        conditioning=_conditioning(plan, guide, encoded, sampled),
        sampling=sampling_pb2.Sampling(
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            seed=image.seed,
            scheduler=settings.scheduler,
            eta=settings.eta,
            progress_every=settings.progress_every,
        ),
        canvas=image.start.canvas,
        output=_OUTPUTS.get(settings.output.format, decoder_pb2.DECODE_OUTPUT_PIXELS),
        preview_every=settings.preview_every,
        preview_mode=settings.preview_mode,
    )
    if image.start.hint is not None:
        request.conditioning.hint.CopyFrom(image.start.hint)
    if image.latents is not None:
        canvas = request.canvas
        noises = {
            "noise": canvas.noise.latents,
            "image": canvas.image.noise,
            "masked_image": canvas.masked_image.noise,
        }
        noises[canvas.WhichOneof("start")].CopyFrom(image.latents)
    for run in sampled.values() if len(sampled) == 1 else ():
        if run.HasField("generator_state"):
            request.generator_state.CopyFrom(run.generator_state)
    return request


def _conditioning(
    plan: Plan, guide: Guide, encoded: Encoded, sampled: Sampled
) -> conditioning_pb2.Conditioning:
    conditioning = conditioning_pb2.Conditioning()
    terms = [term for term in guide.terms if term.weight]
    if terms:
        embed = embeddings.blend(
            [_embedding(term.source, encoded, sampled) for term in terms],
            [term.weight for term in terms],
            [term.source.field for term in terms],
            spherical=guide.spherical,
        )
        if guide.turn is not None:
            source, target = guide.turn.source_text, guide.turn.target_text
            texts = [encoded.texts[key].prior.text_embed for key in (source, target)]
            embed = embeddings.turn(embed, texts[0], texts[1], guide.turn.amount, target)
        conditioning.image_embed.CopyFrom(embed)
    if guide.text is not None:
        _put(conditioning, encoded.texts[guide.text].decoder)
    if not plan.settings.guided:
        return conditioning
    if guide.text is not None:
        unwanted = encoded.texts[guide.negative_text or EMPTY_TEXT]
        _put(conditioning, unwanted.decoder, "negative_")
    if guide.negative is not None:
        embed = _embedding(guide.negative, encoded, sampled)
        conditioning.negative_image_embed.CopyFrom(embed)
    elif guide.terms and encoded.zero_image_embed is not None:
        conditioning.negative_image_embed.CopyFrom(encoded.zero_image_embed)
    return conditioning


def _embedding(source: Source, encoded: Encoded, sampled: Sampled) -> tensor_pb2.Tensor:
    if source.text is not None:
        return sampled[source].image_embed
    if source.picture is not None:
        return encoded.pictures[source.picture]
    if source.embed is None:
        raise ValueError(f"{source.field} names no embedding")
    return source.embed


def _put(
    conditioning: conditioning_pb2.Conditioning,
    text: encoders_pb2.TextEmbedding,
    prefix: str = "",
) -> None:
    for descriptor, part in text.ListFields():
        getattr(conditioning, prefix + descriptor.name).CopyFrom(part)
