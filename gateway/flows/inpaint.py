"""Inpaint: the text route steers, the canvas is a picture whose masked part is made anew."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.flows import starts
from gateway.flows.text_route import text_guides
from gateway.inputs import Mask, Picture, read_mask
from gateway.plan import Plan, Start
from gateway.reading import Reading
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation


def inpaint(request: generation.InpaintRequest, models: Mapping[str, CatalogEntry]) -> Plan:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.INPAINT, models)
    pictures = reading.pictures("image", "images")
    masks = _masks(reading)
    crops = request.HasField("padding_mask_crop")
    size = pictures[0].size if pictures and not crops else None
    settings = reading.settle(prior_runs=reading.runs_prior, size=size)
    guides = text_guides(reading)
    strength = reading.strength("strength", settings.steps)
    reading.match("images", len(pictures), len(guides))
    reading.match("masks", len(masks), len(guides))
    if crops:
        _check_crop(reading)
    reading.faults.raise_any()
    canvases = [
        _start(reading, pictures[i % len(pictures)], masks[i % len(masks)], strength)
        for i in range(max(len(pictures), len(masks)))
    ]
    reading.faults.raise_any()
    return reading.plan(guides, [start for start in canvases if start is not None], "prompts")


def _start(reading: Reading, picture: Picture, mask: Mask, strength: float | None) -> Start | None:
    request, settings, faults = reading.request, reading.settings, reading.faults
    if not request.HasField("padding_mask_crop"):
        return starts.masked_image(picture, mask, strength, settings, faults)
    padding = request.padding_mask_crop
    return starts.cropped(picture, mask, padding, strength, settings, faults)


def _masks(reading: Reading) -> list[Mask]:
    request, faults = reading.request, reading.faults
    sent = {f"masks[{i}]": mask for i, mask in enumerate(request.masks)} or {"mask": request.mask}
    if request.masks and request.HasField("mask"):
        faults.add("masks", "stand in for mask; give one of the two")
    if len(sent) > reading.entry.limits.max_images:
        most = reading.entry.limits.max_images
        faults.add("masks", f"there are {len(sent)}; the most is {most}")
        return []
    masks = [read_mask(image, field, faults) for field, image in sent.items()]
    return [mask for mask in masks if mask is not None]


def _check_crop(reading: Reading) -> None:
    padding, settings = reading.request.padding_mask_crop, reading.settings
    if padding < 0:
        reading.faults.add("padding_mask_crop", f"{padding} is less than 0")
    if settings.output.format == generation.OUTPUT_FORMAT_LATENTS:
        reading.faults.add("settings.output_format", "a cropped picture has no latent")
