"""A planned image as its stages' requests, each field with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.planning.canvases import MadeStart
from gateway.planning.conditioning import (
    Encodings,
    Sampled,
    put_conditioning,
    put_negative_text,
    put_text,
)
from gateway.planning.generation_plan import GenerationPlan, ImagePlan, PriorRun
from gateway.planning.stage_request import M, StageRequest
from gateway.requests.sources import Embedding
from gateway.stages.stages import Encoded
from kandinsky.catalog.family import Stage
from kandinsky.v1 import (
    decoder_pb2,
    prior_pb2,
    settings_pb2,
    tensor_pb2,
)
from kandinsky.wire.errors import invalid

_OUTPUTS: Mapping[int, decoder_pb2.DecodeOutput] = {
    settings_pb2.OUTPUT_FORMAT_FLOAT_PIXELS: decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS,
    settings_pb2.OUTPUT_FORMAT_LATENTS: decoder_pb2.DECODE_OUTPUT_LATENTS,
}


def check_widths(plan: GenerationPlan, answers: Encoded) -> None:
    """Refuse embeddings of another width than the encoders', before anything is sampled.

    Raises:
        KandinskyError: INVALID_FIELD.
    """
    if answers.zero_image_embed is None:
        return
    width = answers.zero_image_embed.shape[0]
    for image in plan.images:
        conditioning = image.conditioning
        sources = [*(part.source for part in conditioning.sources), conditioning.negative_source]
        for source in sources:
            if isinstance(source, Embedding) and source.tensor.shape[0] != width:
                raise invalid(f"{source.field}.shape", f"its embeddings must be {width} wide")


def prior_request(
    plan: GenerationPlan, image: ImagePlan, run: PriorRun, encodings: Encodings
) -> StageRequest[prior_pb2.SampleEmbeddingRequest]:
    """A run of the prior for an image."""
    settings = plan.request.settings.prior
    if settings is None:
        raise ValueError("a run of the prior is planned without settings for it")
    request = StageRequest(prior_pb2.SampleEmbeddingRequest())
    put_text(request, plan, Stage.PRIOR, run.text, encodings)
    if settings.guided:
        put_negative_text(request, plan, Stage.PRIOR, run.text, run.negative, encodings)
    request.set("sampling.steps", settings.steps, "prior.steps")
    request.set("sampling.guidance_scale", settings.guidance_scale, "prior.guidance_scale")
    request.set("sampling.guidance_interval", settings.guidance_interval, "prior.guidance_interval")
    _put_common(request, plan, image, settings.steps)
    request.set("latents", run.latents and run.latents.tensor, "prior.latents")
    if settings.start is not None and run.start is not None:
        request.set("start_embed", encodings.embedding(run.start, {}), run.start.field)
        request.set("strength", settings.start.strength, "prior.start.strength")
    return request


def decode_request(
    plan: GenerationPlan,
    image: ImagePlan,
    encodings: Encodings,
    sampled: Sampled,
    start: MadeStart,
    hint: tensor_pb2.Tensor | None,
) -> StageRequest[decoder_pb2.DecodeRequest]:
    """The decoder's job for an image.

    Raises:
        KandinskyError: INVALID_FIELD if embeddings that a request gave do not fit together.
    """
    settings, events = plan.request.settings.decoder, plan.request.settings.events
    request = StageRequest(decoder_pb2.DecodeRequest())
    put_conditioning(request, plan, image, encodings, sampled)
    request.set("conditioning.hint", hint, image.hint.field if image.hint else "control.hints")
    request.set("sampling.steps", settings.steps, "decoder.steps")
    request.set("sampling.guidance_scale", settings.guidance_scale, "decoder.guidance_scale")
    interval = settings.guidance_interval
    request.set("sampling.guidance_interval", interval, "decoder.guidance_interval")
    if settings.step_cache_interval > 1:
        field = "decoder.step_cache_interval"
        request.set("sampling.step_cache_interval", settings.step_cache_interval, field)
    request.set("sampling.scheduler", settings.scheduler, "decoder.scheduler")
    request.extend("sampling.timesteps", settings.timesteps, "decoder.timesteps")
    request.extend("sampling.sigmas", settings.sigmas, "decoder.sigmas")
    request.set("sampling.free_u", settings.free_u, "decoder.free_u")
    request.set("sampling.eta", settings.eta, "decoder.eta")
    _put_common(request, plan, image, settings.steps)
    request.put("start", start.latents)
    kind = request.message.start.WhichOneof("kind")
    latents = image.latents and image.latents.tensor
    request.set(f"start.{kind}.noise", latents, "decoder.latents")
    if upscaling := plan.request.settings.super_resolution:
        field = "super_resolution.steps"
        request.set(field, upscaling.steps, field)
        latents = image.super_resolution_latents and image.super_resolution_latents.tensor
        request.set("super_resolution.noise", latents, "super_resolution.latents")
    output = _OUTPUTS.get(plan.output.format, decoder_pb2.DECODE_OUTPUT_PIXELS)
    request.set("output", output, "output.format")
    request.set("preview_every", events.preview_every, "events.preview_every")
    request.set("preview_mode", events.preview_mode, "events.preview_mode")
    for run in sampled.values() if len(sampled) == 1 else ():
        if run.HasField("generator_state"):
            request.set("generator_state", run.generator_state, "seed")
    return request


def _put_common(
    request: StageRequest[M], plan: GenerationPlan, image: ImagePlan, steps: int
) -> None:
    events = plan.request.settings.events
    # Where nobody sees them, a loop's first and last step are enough: each event costs all that
    # it passes.
    every = events.progress_every if events.are_read else steps
    request.set("sampling.seed", image.seed, "seed")
    request.set("sampling.progress_every", every, "events.progress_every")
