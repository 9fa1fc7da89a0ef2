"""Inpaint: the text route steers, the canvas is a picture whose masked part is made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.flows import starts
from gateway.flows.text_route import text_guides
from gateway.inputs import REQUEST_PIXELS, Mask, Picture, check_fits, size_of
from gateway.plan import Draft, PendingStart
from gateway.reading import Reading
from gateway.undecoded import Undecoded
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation


def inpaint(request: generation.InpaintRequest, models: Mapping[str, CatalogEntry]) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.INPAINT, models)
    pictures = reading.pictures("image", "images")
    masks = reading.masks()
    crops = request.HasField("padding_mask_crop")
    start = None if crops else size_of(pictures)
    settings = reading.settle(prior_runs=reading.runs_prior, start=start)
    guides = text_guides(reading)
    strength = reading.strength("strength", settings.steps)
    reading.match("images", len(pictures), len(guides))
    reading.match("masks", len(masks), len(guides))
    count = max(len(pictures), len(masks)) if pictures and masks else 0
    pairs = [(pictures[i % len(pictures)], masks[i % len(masks)]) for i in range(count)]
    if crops:
        _check_crop(reading, pairs)
    else:
        for picture in pictures:
            check_fits(picture, settings.height, settings.width, reading.faults)
    reading.check_images(len(guides), "prompt")
    canvases = [_start(reading, picture, mask, strength) for picture, mask in pairs]
    return reading.plan(guides, canvases)


def _start(
    reading: Reading, picture: Undecoded[Picture], mask: Undecoded[Mask], strength: float | None
) -> PendingStart:
    request, settings, inputs = reading.request, reading.settings, (picture, mask)
    if not request.HasField("padding_mask_crop"):
        return PendingStart(
            lambda: starts.masked_image(picture.content, mask.content, strength, settings), inputs
        )
    padding = request.padding_mask_crop
    return PendingStart(
        lambda: starts.cropped(picture.content, mask.content, padding, strength, settings),
        inputs,
        crops=picture,
    )


def _check_crop(
    reading: Reading, pairs: Sequence[tuple[Undecoded[Picture], Undecoded[Mask]]]
) -> None:
    padding, settings, faults = reading.request.padding_mask_crop, reading.settings, reading.faults
    if padding < 0:
        faults.add("padding_mask_crop", f"{padding} is less than 0")
    if settings.output.format == generation.OUTPUT_FORMAT_LATENTS:
        faults.add("settings.output_format", "a cropped picture has no latent")
    pictures = [picture for picture, _ in pairs]
    if any(picture.is_float or picture.size is None for picture in pictures):
        faults.add("padding_mask_crop", "crops files and uint8 pixels alone")
    pixels = sum(picture.pixels for picture in [*dict.fromkeys(pictures), *pictures])
    if pixels > REQUEST_PIXELS:
        faults.add(
            "padding_mask_crop",
            f"pictures, and masks brought to their sizes, are {pixels} pixels; "
            f"the most is {REQUEST_PIXELS} in all",
        )
