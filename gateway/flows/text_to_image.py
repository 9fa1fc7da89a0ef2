"""Text to image: the text route steers, the canvas is noise."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gateway.flows.starts import noise
from gateway.flows.text_route import text_guides
from gateway.plan import Draft, PendingStart
from gateway.reading import Reading
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation


def text_to_image(
    request: generation.TextToImageRequest, models: Mapping[str, CatalogEntry]
) -> Draft:
    """The plan of a request.

    Raises:
        KandinskyError: MODEL_NOT_FOUND, FLOW_UNSUPPORTED, or INVALID_FIELD with every violation
            by its path in the request.
    """
    reading = Reading(request, Flow.TEXT_TO_IMAGE, models)
    settings = reading.settle(prior_runs=reading.runs_prior)
    guides = text_guides(reading)
    reading.check_images(len(guides), "prompt")
    return reading.plan(guides, [PendingStart(partial(noise, settings))])
