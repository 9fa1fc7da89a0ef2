"""Outpaint: the text route steers, the canvas is a picture that grows; what is new is made."""

from __future__ import annotations

import math
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
    _check_margins(reading, pictures)
    reading.faults.raise_any()
    size = _grown(request, pictures[0])
    settings = reading.settle(prior_runs=reading.runs_prior, size=size)
    for name, pixels in zip(("height", "width"), size, strict=True):
        if getattr(settings, name) != pixels:
            reading.faults.add(
                f"settings.{name}", f"picture and margins are {pixels}; leave it out"
            )
    guides = text_guides(reading)
    strength = reading.strength("strength", settings.steps)
    reading.match("images", len(pictures), len(guides))
    reading.faults.raise_any()
    canvases = [
        PendingStart(partial(_start, reading, picture, strength), (picture,))
        for picture in pictures
    ]
    return reading.plan(guides, canvases, "prompts")


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


def _check_margins(reading: Reading, pictures: list[Undecoded[Picture]]) -> None:
    request, faults, limits = reading.request, reading.faults, reading.entry.limits
    for name in (name for pair in _MARGINS for name in pair):
        faults.integer(name, getattr(request, name), 0, limits.max_size)
    if not any(getattr(request, name) for pair in _MARGINS for name in pair):
        faults.add("top", "no margin is above 0; give at least one")
    if faults.any or not pictures:
        return
    for picture in pictures[1:]:
        if picture.size != pictures[0].size:
            faults.add(picture.field, "is of another size than the first; the margins must fit all")
    for pixels, (first, last) in zip(_grown(request, pictures[0]), _MARGINS, strict=True):
        multiple = limits.size_multiple
        if pixels % multiple:
            more = math.ceil(pixels / multiple) * multiple - pixels
            faults.add(
                last if getattr(request, last) else first,
                f"the canvas is {pixels} pixels, no multiple of {multiple}; "
                f"add {more} more, or {multiple - more} fewer",
            )


def _grown(request: generation.OutpaintRequest, picture: Undecoded[Picture]) -> tuple[int, int]:
    height, width = picture.size or (0, 0)
    return height + request.top + request.bottom, width + request.left + request.right
