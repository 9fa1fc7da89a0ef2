"""Image to image: the text route steers, the canvas is a noised picture."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.flows import starts
from gateway.flows.text_route import text_guides
from gateway.inputs import Picture, check_fits, size_of
from gateway.plan import Draft, PendingStart
from gateway.reading import Reading
from gateway.settings import Settings
from gateway.undecoded import Undecoded
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation

DEFAULT_STRENGTH = 0.3


def image_to_image(
    request: generation.ImageToImageRequest, models: Mapping[str, CatalogEntry]
) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.IMAGE_TO_IMAGE, models)
    pictures = reading.pictures("image", "images")
    settings = reading.settle(prior_runs=reading.runs_prior, start=size_of(pictures))
    guides = text_guides(reading, reading.prior_start(pictures))
    strength = reading.strength("strength", settings.steps, DEFAULT_STRENGTH)
    reading.match("images", len(pictures), len(guides))
    for picture in pictures:
        check_fits(picture, settings.height, settings.width, reading.faults)
    reading.check_images(len(guides), "prompt")
    canvases = [noised(picture, strength, settings) for picture in pictures]
    return reading.plan(guides, canvases)


def noised(picture: Undecoded[Picture], strength: float | None, settings: Settings) -> PendingStart:
    """The start of a canvas from a picture with noise added."""
    return PendingStart(lambda: starts.image(picture.content, strength, settings), (picture,))
