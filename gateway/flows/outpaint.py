"""Outpaint: the text route steers, the canvas is a picture that grows; what is new is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from gateway.flows import starts
from gateway.flows.text_route import text_guides
from gateway.inputs import Mask, Picture
from gateway.plan import Draft, PendingStart, Start
from gateway.reading import Reading
from gateway.undecoded import Undecoded
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation

_MARGINS = (("top", "bottom"), ("left", "right"))


def outpaint(request: generation.OutpaintRequest, models: Mapping[str, CatalogEntry]) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.OUTPAINT, models)
    pictures = reading.pictures("image", "images", latents=False)
    size = _checked_size(reading, pictures)
    start = None if size is None else (pictures[0].field, size)
    settings = reading.settle(prior_runs=reading.runs_prior, start=start)
    for name, pixels in zip(("height", "width"), size or (), strict=False):
        if getattr(settings, name) != pixels:
            reading.faults.add(
                f"settings.{name}", f"picture and margins are {pixels}; leave it out"
            )
    guides = text_guides(reading)
    strength = reading.strength("strength", settings.steps)
    reading.match("images", len(pictures), len(guides))
    reading.check_images(len(guides), "prompt")
    canvases = [
        PendingStart(partial(_start, reading, picture, strength), (picture,))
        for picture in pictures
    ]
    return reading.plan(guides, canvases)


def _start(reading: Reading, picture: Undecoded[Picture], strength: float | None) -> Start:
    """The picture with its edges repeated outward, under a mask that is white there."""
    rows, columns = (
        (getattr(reading.request, a), getattr(reading.request, b)) for a, b in _MARGINS
    )
    pixels = picture.content.pixels
    if pixels is None:
        raise ValueError("a latent has no edges to continue")
    # The encoder looks over a cell's edge: a repeated edge disturbs the picture's own cells least.
    grown = Picture(picture.field, np.pad(pixels, (rows, columns, (0, 0)), mode="edge"))
    kept = np.zeros(pixels.shape[:2], np.uint8)
    mask = Mask(picture.field, np.pad(kept, (rows, columns), constant_values=255))
    return starts.masked_image(grown, mask, strength, reading.settings)


def _checked_size(reading: Reading, pictures: list[Undecoded[Picture]]) -> tuple[int, int] | None:
    """Height and width of the canvas; None, and a note, where picture and margins make none."""
    request, faults, limits = reading.request, reading.faults, reading.entry.limits
    margins = [getattr(request, name) for pair in _MARGINS for name in pair]
    for name in (name for pair in _MARGINS for name in pair):
        faults.integer(name, getattr(request, name), 0, limits.max_size)
    if not any(margins):
        faults.add("top", "no margin is above 0; give at least one")
    for picture in pictures[1:]:
        if picture.size != pictures[0].size:
            faults.add(picture.field, "is of another size than the first; the margins must fit all")
    if not pictures or not any(margins) or not 0 <= min(margins) <= max(margins) <= limits.max_size:
        return None
    height, width = pictures[0].size or (0, 0)
    size = height + request.top + request.bottom, width + request.left + request.right
    fits = [
        _check_side(reading, pixels, last if getattr(request, last) else first)
        for pixels, (first, last) in zip(size, _MARGINS, strict=True)
    ]
    return size if all(fits) else None


def _check_side(reading: Reading, pixels: int, margin: str) -> bool:
    """Whether a side of the canvas fits; if not, its margin is at fault."""
    limits = reading.entry.limits
    multiple, least, most = limits.size_multiple, limits.min_size, limits.max_size
    more = -pixels % multiple
    if more:
        reading.faults.add(
            margin,
            f"the canvas is {pixels} pixels, no multiple of {multiple}; "
            f"add {more} more, or {multiple - more} fewer",
        )
    elif not least <= pixels <= most:
        sides = f"sides go from {least} to {most}"
        reading.faults.add(margin, f"the canvas is {pixels} pixels; {sides}")
    return not more and least <= pixels <= most
