"""Validates a request against the contract, its model's family and its catalog entry.

What only a checkpoint can tell (token counts, embedding widths) is left to the stages, and what
only the content of an image file can tell to when it is decoded.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from gateway.planning.canvases import Canvas, canvas_class
from gateway.planning.guides import Guide, guide_class
from gateway.requests import settings_reading as groups
from gateway.requests.adapters import adapters
from gateway.requests.flow import Flow, check_flow, flow_of, served_entry
from gateway.requests.input_images import InputImage, check_fits
from gateway.requests.settings import ImageSize, PriorSettings, PriorStart, Settings
from gateway.requests.undecoded import Undecoded
from gateway.requests.validated import Negative, ValidatedRequest
from gateway.requests.value_reader import ValueReader
from gateway.requests.violations import Violations, counted
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire import constraints


def validate(request: GenerateRequest, models: Mapping[str, CatalogEntry]) -> ValidatedRequest:
    """The request as types, every default applied.

    Args:
        request: as sent.
        models: what is served, by name.

    Raises:
        KandinskyError: MODEL_NOT_FOUND, FLOW_UNSUPPORTED, or INVALID_FIELD with every violation by
            its path in the request.
    """
    entry = served_entry(request.model, models)
    flow = flow_of(request)
    if flow is not None:
        check_flow(flow, entry)
    found = constraints.check(request, most=entry.limits.max_images)
    reader = ValueReader(entry, Violations(found))
    if flow is None:
        reader.violations.raise_any()
        raise ValueError("a request without a guide passed the contract's constraints")
    return _validated(request, flow, reader)


def _validated(request: GenerateRequest, flow: Flow, reader: ValueReader) -> ValidatedRequest:
    guide_message, canvas_message = getattr(request.guide, flow.guide.value), None
    guide = guide_class(flow.guide).validate(guide_message, f"guide.{flow.guide.value}", reader)
    at = f"canvas.{flow.canvas.value}"
    if request.HasField("canvas") and request.canvas.WhichOneof("kind") is not None:
        canvas_message = getattr(request.canvas, flow.canvas.value)
    canvas = canvas_class(flow.canvas).validate(canvas_message, at, guide, reader)
    hints = reader.images(request.control.hints, "control.hints", low=0.0, latents=False)
    negative = Negative(
        reader.texts(request.negative.texts, "negative.texts"),
        reader.rows(request.negative.image_embeds, "negative.image_embeds"),
        reader.images(request.negative.images, "negative.images", latents=False),
    )
    settings = Settings(
        prior=_prior(request, guide, canvas, negative, reader),
        decoder=groups.decoder_settings(
            request.decoder, reader, canvas.size(guide) or ImageSize.of(hints)
        ),
        super_resolution=groups.super_resolution_settings(request.super_resolution, reader),
        output=groups.output_settings(request.output, reader.violations),
        events=groups.event_settings(request.events, reader.violations),
    )
    _check_sides(request, guide, settings, reader)
    _check_size(request, canvas_message, canvas, hints, settings, reader)
    named = adapters(request, reader)
    each = groups.images_per_prompt(request)
    total = _check_counts(request, guide, each, reader)
    seeds = 1 if guide.seed_is_shared else max(total, 1)
    if request.HasField("seed"):
        reader.violations.integer("seed", request.seed, 0, 2**63 - 1 - seeds)
    reader.violations.raise_any()
    return ValidatedRequest(
        entry=reader.entry,
        flow=flow.name,
        guide=guide,
        canvas=canvas,
        hints=hints,
        negative=negative,
        settings=settings,
        adapters=named,
        images_per_prompt=each,
        seed=request.seed if request.HasField("seed") else secrets.randbelow(2**63 - seeds),
        validate_only=request.validate_only,
    )


def _prior(
    request: GenerateRequest,
    guide: Guide,
    canvas: Canvas,
    negative: Negative,
    reader: ValueReader,
) -> PriorSettings | None:
    """The prior's settings; None where no text of the request is the prior's to sample."""
    spec, message = reader.entry.spec, request.prior
    named = [*message.negative_texts, *(text.text for text in negative.texts)]
    names_one = not guide.holds_negatives and any(text.strip() for text in named)
    if not spec.has_prior or not (guide.has_texts or names_one):
        groups.refuse_prior_settings(message, reader.violations)
        return None
    start = _prior_start(request, canvas, reader) if message.HasField("start") else None
    return groups.prior_settings(message, reader, start)


def _prior_start(request: GenerateRequest, canvas: Canvas, reader: ValueReader) -> PriorStart:
    message, default = request.prior.start, reader.sampler("prior")
    sources = reader.rows(message.image_embeds, "prior.start.image_embeds")
    if message.images and message.HasField("image_embeds"):
        advice = "stand in for prior.start.images; give one of the two"
        reader.violations.add("prior.start.image_embeds", advice)
    images: tuple[Undecoded[InputImage], ...] = ()
    if message.images:
        images = reader.images(message.images, "prior.start.images", latents=False)
    elif not message.HasField("image_embeds"):
        images = reader.encoder_images(canvas.images)
        if not images and not canvas.has_images:
            rule = "there is no image to start from; send prior.start.images"
            reader.violations.add("prior.start", rule)
    strength = message.strength if message.HasField("strength") else default.strength
    reader.leaves_a_step(
        request.prior.steps if request.prior.HasField("steps") else default.steps,
        strength,
        share_field="prior.start.strength" if message.HasField("strength") else None,
        share_name="prior.start.strength",
        steps_field="prior.steps",
    )
    return PriorStart((*sources, *images), strength)


def _check_sides(
    request: GenerateRequest, guide: Guide, settings: Settings, reader: ValueReader
) -> None:
    """Record a violation for what one side of guidance says twice, or says to nobody."""
    violations, spec, negative = reader.violations, reader.entry.spec, request.negative
    guide.check(settings, reader)
    if guide.holds_negatives and request.HasField("negative"):
        violations.add("negative", f"each {guide.unit} of this guide has its own negative side")
    elif negative.images and not spec.decoder_attends_to_image:
        violations.add("negative.images", "this model's decoder attends to no image")
    elif negative.images and not guide.has_images:
        violations.add("negative.images", "stand beside a guide that shows an image")
    elif negative.HasField("image_embeds") and not spec.decoder_reads_image:
        violations.add("negative.image_embeds", "this model's decoder reads no image embedding")
    elif (
        negative.HasField("image_embeds")
        and not spec.decoder_reads_text
        and any(text.strip() for text in negative.texts)
    ):
        advice = "stand in for negative.texts; give one of the two"
        violations.add("negative.image_embeds", advice)


def _check_size(
    request: GenerateRequest,
    canvas_message: object,
    canvas: Canvas,
    hints: tuple[Undecoded[InputImage], ...],
    settings: Settings,
    reader: ValueReader,
) -> None:
    """Record a violation where images do not fit the size, or a strength the steps."""
    size, at = settings.decoder.size, f"canvas.{canvas.kind.value}.strength"
    canvas.check(settings, reader)
    for hint in hints:
        check_fits(hint, size.height, size.width, reader.violations)
    given = canvas_message is not None and canvas_message.HasField("strength")  # type: ignore[attr-defined]
    reader.leaves_a_step(
        settings.decoder.steps,
        canvas.strength,
        share_field=at if given else None,
        share_name=at,
        steps_field="decoder.steps",
    )


def _check_counts(request: GenerateRequest, guide: Guide, each: int, reader: ValueReader) -> int:
    """How many images a request makes; 0, and a violation, where they are none or too many."""
    violations, most, items = reader.violations, reader.entry.limits.max_images, guide.count
    if guide.seed_is_shared and request.HasField("images_per_prompt"):
        violations.narrow("images_per_prompt", f"each {guide.unit} is one image; leave it out")
    elif each >= 1 and items * each > most:
        made = f"{each} makes {items * each} images of {counted(items, guide.unit)}"
        violations.narrow("images_per_prompt", f"{made}; the most is {most}")
    total = 0 if violations.at("images_per_prompt") else items * each
    for field, have in constraints.one_or_each(request).items():
        if not violations.at(field):
            violations.one_or_each(field, have, items, guide.unit)
    noises = min(total, 1) if guide.seed_is_shared else total
    for field, have in constraints.one_or_each(request, of_image=True).items():
        if not violations.at(field):
            violations.one_or_each(field, have, noises, "image")
    return total
