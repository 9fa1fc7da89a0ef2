"""Variation: a picture's own embedding steers, the canvas is noise."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gateway.flows import starts
from gateway.inputs import size_of
from gateway.plan import Draft, Guide, PendingStart, Source, Term
from gateway.reading import Reading
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation


def variation(request: generation.VariationRequest, models: Mapping[str, CatalogEntry]) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.VARIATION, models)
    pictures = reading.pictures("image", "images", latents=False)
    settings = reading.settle(prior_runs=False, start=size_of(pictures))
    text = reading.told()
    negatives = reading.rows("negative_image_embeds", (None, None))
    reading.faults.one_or_each(
        "negative_image_embeds.shape", len(negatives), len(pictures), "image", "has {} rows"
    )
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
    reading.check_images(len(guides), "image")
    return reading.plan(guides, [PendingStart(partial(starts.noise, settings))])
