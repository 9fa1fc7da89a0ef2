"""Text-guided edit: a picture's embedding, moved as two texts differ, steers.

Section 3.3 of arXiv 2204.06125 calls it text diffs. The canvas is noise, or the noised picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from gateway.flows import starts
from gateway.flows.image_to_image import noised
from gateway.inputs import check_fits, size_of
from gateway.plan import Draft, Guide, PendingStart, Source, Term, Turn
from gateway.reading import Reading
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation

DEFAULT_AMOUNT = 0.375


def text_guided_edit(
    request: generation.TextGuidedEditRequest, models: Mapping[str, CatalogEntry]
) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.TEXT_GUIDED_EDIT, models)
    faults = reading.faults
    pictures = reading.picture(request.image, "image", latents=False)
    settings = reading.settle(prior_runs=False, start=size_of(pictures))
    keys = [
        reading.text(field, getattr(request, field), required=True)
        for field in ("source_prompt", "target_prompt")
    ]
    if request.source_prompt == request.target_prompt and all(keys):
        faults.add("target_prompt", "says the same as source_prompt")
    amount = request.amount if request.HasField("amount") else DEFAULT_AMOUNT
    if not 0 <= amount <= 1:  # true for NaN
        faults.add("amount", f"{amount:g} is outside 0 to 1")
    strength = reading.strength("strength", settings.steps)
    negative = reading.one("negative_image_embed", 1)
    text = reading.told() if request.prompt or not reading.reads_text else "target_prompt"
    if strength is not None and pictures:
        check_fits(pictures[0], settings.height, settings.width, faults)
    reading.check_images(len(pictures), "image")
    start = PendingStart(partial(starts.noise, settings))
    if strength is not None:
        start = noised(pictures[0], strength, settings)
    guide = Guide(
        terms=(Term(Source("image", picture=reading.show(pictures[0]))),),
        turn=Turn("source_prompt", "target_prompt", amount),
        negative=None if negative is None else Source("negative_image_embed", embed=negative),
        text=text,
    )
    return reading.plan([guide], [start])
