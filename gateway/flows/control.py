"""Control: the text route and a hint steer, the canvas is noise or a noised picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gateway.flows import starts
from gateway.flows.image_to_image import DEFAULT_STRENGTH
from gateway.flows.text_route import text_guides
from gateway.inputs import Picture, check_fits, fitted, size_of
from gateway.plan import Draft, PendingStart, Start
from gateway.reading import Reading
from gateway.settings import Settings
from gateway.undecoded import Undecoded
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors


def control(request: generation.ControlRequest, models: Mapping[str, CatalogEntry]) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.CONTROL, models)
    hints = reading.pictures("hint", "hints", low=0.0, latents=False)
    starts_from_picture = request.HasField("image") or bool(request.images)
    pictures = reading.pictures("image", "images") if starts_from_picture else []
    start = size_of(pictures or hints)
    settings = reading.settle(prior_runs=reading.runs_prior, start=start)
    if not starts_from_picture:
        for field in ("strength", "prior_strength"):
            if request.HasField(field):
                reading.faults.add(field, "there is no image to start from")
    guides = text_guides(reading, reading.prior_start(pictures) if starts_from_picture else ())
    strength = None
    if starts_from_picture:
        strength = reading.strength("strength", settings.steps, DEFAULT_STRENGTH)
    reading.match("hints", len(hints), len(guides))
    if starts_from_picture:
        reading.match("images", len(pictures), len(guides))
    for picture in (*hints, *pictures):
        check_fits(picture, settings.height, settings.width, reading.faults)
    reading.check_images(len(guides), "prompt")
    canvases = [
        _start(
            settings,
            hints[i % len(hints)],
            pictures[i % len(pictures)] if pictures else None,
            strength,
        )
        for i in range(max(len(hints), len(pictures)))
    ]
    return reading.plan(guides, canvases)


def _start(
    settings: Settings,
    hint: Undecoded[Picture],
    picture: Undecoded[Picture] | None,
    strength: float | None,
) -> PendingStart:
    def make() -> Start:
        values = _hint(hint.content, settings)
        if picture is None:
            return starts.noise(settings, values, hint.field)
        return starts.image(picture.content, strength, settings, values, hint.field)

    return PendingStart(make, (hint,) if picture is None else (hint, picture))


def _hint(hint: Picture, settings: Settings) -> tensor_pb2.Tensor:
    """float32 [3, H, W] from 0 to 1."""
    pixels = fitted(hint, settings.height, settings.width)
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / 255
    return tensors.encode(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
