"""Variation: a picture's own embedding steers, the canvas is noise."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gateway.flows import starts
from gateway.plan import Draft, Guide, PendingStart, Source, Term
from gateway.reading import Reading
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation


def variation(request: generation.VariationRequest, models: Mapping[str, CatalogEntry]) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.VARIATION, models)
    pictures = reading.pictures("image", "images", latents=False)
    size = pictures[0].size if pictures else None
    settings = reading.settle(prior_runs=False, size=size)
    text = reading.told()
    negatives = reading.rows("negative_image_embeds", (None, None))
    if negatives and len(negatives) not in (1, len(pictures)):
        rows = f"has {len(negatives)} rows; give 1 or {len(pictures)}"
        reading.faults.add("negative_image_embeds.shape", rows)
    guides = [
        Guide(
            terms=(Term(Source(picture.field, picture=reading.show(picture))),),
            negative=(
                Source("negative_image_embeds", embed=negatives[i % len(negatives)])
                if negatives
                else None
            ),
            text=text,
        )
        for i, picture in enumerate(pictures)
    ]
    return reading.plan(guides, [PendingStart(partial(starts.noise, settings))], "images")
