"""GenerationSettings, checked against a model's limits and with its defaults applied."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.faults import Faults
from kandinsky.catalog.catalog import CatalogEntry, Limits
from kandinsky.catalog.schedulers import SCHEDULERS, WITH_ETA
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import sampling_pb2

Size = tuple[int, int]
"""Height and width in pixels."""
_WITH_QUALITY = frozenset({generation.OUTPUT_FORMAT_JPEG, generation.OUTPUT_FORMAT_WEBP})


@dataclass(frozen=True)
class PriorSettings:
    """How the prior samples."""

    steps: int
    guidance_scale: float


@dataclass(frozen=True)
class Output:
    """How an image is to come back."""

    format: generation.OutputFormat
    """Never UNSPECIFIED."""
    quality: int | None
    """1 to 100; None is the format's own default."""


@dataclass(frozen=True)
class Settings:
    """GenerationSettings with nothing left open but the seed."""

    images_per_prompt: int
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    steps: int
    guidance_scale: float
    prior: PriorSettings | None
    """None where no prior runs."""
    scheduler: str
    """Of the decoder, by name; "" for the checkpoint's own."""
    eta: float | None
    """DDIM's."""
    progress_every: int | None
    """Steps between progress events; None for at most ten a second."""
    preview_every: int
    """Steps between previews; 0 for none."""
    preview_mode: sampling_pb2.PreviewMode
    output: Output

    @property
    def guided(self) -> bool:
        """Whether the decoder runs with classifier-free guidance."""
        return self.guidance_scale > 1

    @property
    def prior_guided(self) -> bool:
        """Whether a prior runs with classifier-free guidance."""
        return self.prior is not None and self.prior.guidance_scale > 1


def resolve_settings(
    message: generation.GenerationSettings,
    entry: CatalogEntry,
    faults: Faults,
    *,
    has_prior: bool,
    start: tuple[str, Size] | None = None,
) -> Settings:
    """Settings with the model's defaults applied; what is wrong goes to `faults`.

    Args:
        message: as sent.
        entry: the model.
        faults: takes what is wrong.
        has_prior: whether this request runs the prior.
        start: path, and height and width, of the picture that the request starts from, if it does.
    """
    has: Callable[[str], bool] = message.HasField
    limits, defaults = entry.limits, entry.defaults

    def given(name: str, default: Any) -> Any:
        return getattr(message, name) if has(name) else default

    height, width = given("height", defaults.height), given("width", defaults.width)
    if start is not None and not has("height") and not has("width"):
        height, width = _size_of_start(*start, limits, faults)
    else:
        for field, pixels in (("settings.height", height), ("settings.width", width)):
            faults.side(
                field,
                pixels,
                multiple=limits.size_multiple,
                low=limits.min_size,
                high=limits.max_size,
            )
    steps = given("steps", defaults.steps)
    faults.integer("settings.steps", steps, 1, limits.max_steps)
    guidance = given("guidance_scale", defaults.guidance_scale)
    faults.guidance("settings.guidance_scale", guidance)
    prior = None
    if has_prior:
        prior = PriorSettings(
            given("prior_steps", defaults.prior_steps),
            given("prior_guidance_scale", defaults.prior_guidance_scale),
        )
        faults.integer("settings.prior_steps", prior.steps, 2, limits.max_steps)
        faults.guidance("settings.prior_guidance_scale", prior.guidance_scale)
    else:
        for name in ("prior_steps", "prior_guidance_scale"):
            if has(name):
                faults.add(f"settings.{name}", "no prior runs for this request")
    scheduler, eta = message.scheduler, given("eta", None)
    if scheduler and scheduler not in SCHEDULERS:
        faults.add("settings.scheduler", f"is none of {', '.join(SCHEDULERS)}")
    if eta is not None and not 0 <= eta <= 1:  # true for NaN
        faults.add("settings.eta", f"{eta:g} is outside 0 to 1")
    elif eta is not None and scheduler and scheduler not in WITH_ETA:
        faults.add("settings.eta", f"{scheduler} has none; use {', '.join(WITH_ETA)}")
    progress_every = given("progress_every", None)
    if progress_every is not None and progress_every < 1:
        faults.add("settings.progress_every", f"{progress_every} is less than 1")
    preview_every = given("preview_every", 0)
    if has("preview_every") and preview_every < 1:
        faults.add("settings.preview_every", f"{preview_every} is less than 1")
    preview_mode = message.preview_mode
    if preview_mode not in sampling_pb2.PreviewMode.values():
        faults.add("settings.preview_mode", f"{preview_mode} is no known mode")
    elif preview_mode and not preview_every:
        faults.add("settings.preview_mode", "has no use without preview_every")
    return Settings(
        images_per_prompt=given("images_per_prompt", 1),
        height=height,
        width=width,
        steps=steps,
        guidance_scale=guidance,
        prior=prior,
        scheduler=scheduler,
        eta=eta,
        progress_every=progress_every,
        preview_every=preview_every,
        preview_mode=preview_mode,
        output=_output(message, faults),
    )


def _size_of_start(field: str, size: Size, limits: Limits, faults: Faults) -> Size:
    """A picture's size rounded down to one that the model draws; the picture is at fault where it
    draws none such, since the caller has named no size."""
    multiple = limits.size_multiple
    height, width = (side // multiple * multiple for side in size)
    least, most = math.ceil(limits.min_size / multiple) * multiple, limits.max_size
    if not least <= min(height, width) <= max(height, width) <= most:
        faults.add(
            field,
            f"is {size[1]}x{size[0]} pixels, and sides go from {least} to "
            f"{most // multiple * multiple}; send another, or set settings.height and "
            "settings.width",
        )
    return height, width


def _output(message: generation.GenerationSettings, faults: Faults) -> Output:
    format = message.output_format or generation.OUTPUT_FORMAT_PNG
    if format not in generation.OutputFormat.values():
        faults.add("settings.output_format", f"{format} is no known format")
        return Output(format, None)
    if not message.HasField("output_quality"):
        return Output(format, None)
    if format not in _WITH_QUALITY:
        name = generation.OutputFormat.Name(format).removeprefix("OUTPUT_FORMAT_")
        faults.add("settings.output_quality", f"{name} has no quality; use JPEG or WEBP")
    faults.integer("settings.output_quality", message.output_quality, 1, 100)
    return Output(format, message.output_quality)
