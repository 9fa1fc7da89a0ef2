"""The settings groups of a request, read with every default applied."""

from __future__ import annotations

import itertools
import math

from google.protobuf.message import Message

from gateway.requests.settings import (
    DecoderSettings,
    EventSettings,
    ImageSize,
    OutputSettings,
    PriorSettings,
    PriorStart,
    SuperResolutionSettings,
)
from gateway.requests.value_reader import ValueReader
from gateway.requests.violations import Violations
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import OPTIONS, SamplerSpec
from kandinsky.catalog.presets import PRESETS, Preset
from kandinsky.catalog.schedulers import SCHEDULERS, WITH_ETA
from kandinsky.v1 import generation_pb2, sampling_pb2, settings_pb2

PRESET_NAMES = {
    number: name.removeprefix("PRESET_").lower().replace("unspecified", "exact")
    for name, number in settings_pb2.Preset.items()
}
_WITH_QUALITY = frozenset({settings_pb2.OUTPUT_FORMAT_JPEG, settings_pb2.OUTPUT_FORMAT_WEBP})


def prior_settings(
    message: settings_pb2.PriorSettings, reader: ValueReader, start: PriorStart | None
) -> PriorSettings:
    """The prior's settings, of a model that has one.

    Args:
        message: checked by the contract's constraints.
        reader: of the request.
        start: what the prior starts from.
    """
    sampler = reader.sampler("prior")
    return PriorSettings(
        steps=_steps(message, sampler, reader.violations),
        guidance_scale=_guidance_scale(message, sampler),
        latents=reader.rows(message.latents, "prior.latents"),
        negative_texts=reader.texts(message.negative_texts, "prior.negative_texts"),
        start=start,
        guidance_interval=_guidance_interval(message, "prior", reader.violations),
    )


def refuse_prior_settings(message: settings_pb2.PriorSettings, violations: Violations) -> None:
    """Record a violation for each setting of a prior that does not run."""
    for descriptor, _ in message.ListFields():
        violations.narrow(f"prior.{descriptor.name}", "no prior runs for this request")


def decoder_settings(
    message: settings_pb2.DecoderSettings, reader: ValueReader, own_size: ImageSize | None
) -> DecoderSettings:
    """The decoder's settings.

    Args:
        message: checked by the contract's constraints.
        reader: of the request.
        own_size: of an image of the request, rounded down where the request names no size; None
            for the model's default.
    """
    entry, violations, sampler = reader.entry, reader.violations, reader.sampler("decoder")
    for name in ("texts", "negative_texts"):
        if getattr(message, name) and not entry.spec.decoder_reads_text:
            violations.add(f"decoder.{name}", "this model's decoder reads no text")
    refuse_options(message, "decoder", sampler, violations)
    preset = PRESETS[PRESET_NAMES.get(message.preset, "exact")]
    scheduler = message.scheduler or None
    eta = message.eta if message.HasField("eta") else None
    if sampler.fixed_scheduler:
        for name in ("scheduler", "eta"):
            if message.HasField(name):
                violations.narrow(f"decoder.{name}", "cannot be chosen for this model")
    elif scheduler is not None and scheduler not in SCHEDULERS:
        violations.add("decoder.scheduler", f"is none of {', '.join(SCHEDULERS)}")
    elif eta is not None and scheduler is not None and scheduler not in WITH_ETA:
        violations.narrow("decoder.eta", f"{scheduler} has none; use {', '.join(WITH_ETA)}")
    return DecoderSettings(
        texts=reader.texts(message.texts, "decoder.texts"),
        negative_texts=reader.texts(message.negative_texts, "decoder.negative_texts"),
        size=_size(message, entry, violations, own_size),
        steps=_decoder_steps(message, sampler, violations),
        guidance_scale=_guidance_scale(message, sampler),
        scheduler=scheduler,
        eta=eta,
        latents=reader.rows(message.latents, "decoder.latents"),
        guidance_interval=_guidance_interval(message, "decoder", violations, preset),
        step_cache_interval=_step_cache_interval(message, sampler, violations, preset),
        timesteps=tuple(message.timesteps),
        sigmas=tuple(message.sigmas),
        clip_skip=message.clip_skip if message.HasField("clip_skip") else None,
        free_u=message.free_u if message.HasField("free_u") else None,
    )


def super_resolution_settings(
    message: settings_pb2.SuperResolutionSettings, reader: ValueReader
) -> SuperResolutionSettings | None:
    """How small images are made larger; None of a model that makes none. Arguments as above."""
    sampler = reader.entry.sampler("super_resolution")
    if sampler is None:
        for descriptor, _ in message.ListFields():
            path = f"super_resolution.{descriptor.name}"
            reader.violations.narrow(path, "this model makes no small image")
        return None
    return SuperResolutionSettings(
        steps=_steps(message, sampler, reader.violations),
        latents=reader.rows(message.latents, "super_resolution.latents"),
    )


def refuse_options(
    message: Message, path: str, sampler: SamplerSpec, violations: Violations
) -> None:
    """Record a violation for each set field that only some families have, and this one has not.

    Args:
        message: settings or a canvas.
        path: of it.
        sampler: of the family.
        violations: of the request.
    """
    for descriptor, _ in message.ListFields():
        if descriptor.name in OPTIONS and descriptor.name not in sampler.options:
            violations.narrow(f"{path}.{descriptor.name}", "this model takes none")


def output_settings(message: settings_pb2.OutputSettings, violations: Violations) -> OutputSettings:
    """How images come back; arguments as above."""
    form = message.format or settings_pb2.OUTPUT_FORMAT_PNG
    if not message.HasField("quality"):
        return OutputSettings(form, None)
    if form not in _WITH_QUALITY and not violations.at("output.format"):
        name = settings_pb2.OutputFormat.Name(form).removeprefix("OUTPUT_FORMAT_")
        violations.narrow("output.quality", f"{name} has no quality; use JPEG or WEBP")
    return OutputSettings(form, message.quality)


def event_settings(message: settings_pb2.EventSettings, violations: Violations) -> EventSettings:
    """Which events come; arguments as above."""
    preview_every = message.preview_every if message.HasField("preview_every") else None
    if message.preview_mode and preview_every is None:
        violations.narrow("events.preview_mode", "has no use without events.preview_every")
    return EventSettings(
        message.progress_every if message.HasField("progress_every") else None,
        preview_every,
        message.preview_mode,
    )


def images_per_prompt(request: generation_pb2.GenerateRequest) -> int:
    """Images an item; 1 where the request names none."""
    return request.images_per_prompt if request.HasField("images_per_prompt") else 1


def _steps(
    message: settings_pb2.PriorSettings
    | settings_pb2.DecoderSettings
    | settings_pb2.SuperResolutionSettings,
    sampler: SamplerSpec,
    violations: Violations,
) -> int:
    if not message.HasField("steps"):
        return sampler.steps
    field = f"{sampler.group}.steps"
    violations.integer(field, message.steps, sampler.min_steps, sampler.max_steps)
    return message.steps


def _decoder_steps(
    message: settings_pb2.DecoderSettings, sampler: SamplerSpec, violations: Violations
) -> int:
    """As many as there are timesteps or sigmas, where the request names those."""
    given = message.timesteps or message.sigmas
    if not given:
        return _steps(message, sampler, violations)
    name = "timesteps" if message.timesteps else "sigmas"
    if message.timesteps and message.sigmas:
        violations.narrow("decoder.sigmas", "stands beside decoder.timesteps; leave one out")
    if message.HasField("steps"):
        violations.narrow("decoder.steps", f"is the number of decoder.{name}; leave it out")
    if len(given) > sampler.max_steps:
        violations.add(f"decoder.{name}", f"has {len(given)}; the most is {sampler.max_steps}")
    elif any(later >= one for one, later in itertools.pairwise(given)):
        violations.add(f"decoder.{name}", "is not in falling order")
    return len(given)


def _guidance_scale(
    message: settings_pb2.PriorSettings | settings_pb2.DecoderSettings, sampler: SamplerSpec
) -> float:
    return message.guidance_scale if message.HasField("guidance_scale") else sampler.guidance_scale


def _guidance_interval(
    message: settings_pb2.PriorSettings | settings_pb2.DecoderSettings,
    group: str,
    violations: Violations,
    preset: Preset = PRESETS["exact"],
) -> sampling_pb2.GuidanceInterval | None:
    if not message.HasField("guidance_interval"):
        if preset.guidance_interval == PRESETS["exact"].guidance_interval:
            return None
        low, high = preset.guidance_interval
        return sampling_pb2.GuidanceInterval(low=low, high=high)
    interval = message.guidance_interval
    high = interval.high if interval.HasField("high") else 1.0
    if interval.low > high:
        violations.narrow(f"{group}.guidance_interval.low", f"is above the high end, {high:g}")
    return interval


def _step_cache_interval(
    message: settings_pb2.DecoderSettings,
    sampler: SamplerSpec,
    violations: Violations,
    preset: Preset,
) -> int:
    is_given = message.HasField("step_cache_interval")
    interval = message.step_cache_interval if is_given else preset.step_cache_interval
    if interval > 1 and not sampler.step_cache:
        field = "step_cache_interval" if is_given else "preset"
        violations.narrow(f"decoder.{field}", "this model computes every step whole")
    return interval


def _size(
    message: settings_pb2.DecoderSettings,
    entry: CatalogEntry,
    violations: Violations,
    own: ImageSize | None,
) -> ImageSize:
    multiple, low, high = entry.spec.size_multiple, entry.size.min, entry.size.max
    is_named = message.HasField("height") or message.HasField("width")
    if own is not None and not is_named and low < high:  # a model of one size keeps it
        height, width = (side // multiple * multiple for side in (own.height, own.width))
        least, most = math.ceil(low / multiple) * multiple, high // multiple * multiple
        if not least <= min(height, width) <= max(height, width) <= most:
            # The image is at fault: the caller has named no size.
            violations.add(
                own.field,
                f"is {own.width}x{own.height} pixels, and sides go from {least} to {most}; "
                "send another, or set decoder.height and decoder.width",
            )
        return ImageSize(height, width, own.field)
    height = message.height if message.HasField("height") else entry.size.height
    width = message.width if message.HasField("width") else entry.size.width
    for field, pixels in (("decoder.height", height), ("decoder.width", width)):
        violations.side(field, pixels, multiple=multiple, low=low, high=high)
    return ImageSize(height, width, "")
