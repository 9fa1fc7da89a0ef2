"""The text route: prompts, or image embeddings in their place, as what steers the images."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.faults import counted
from gateway.plan import EMPTY_TEXT, Guide, PriorStart, Source, Term
from gateway.reading import Reading
from kandinsky.v1 import tensor_pb2


def text_guides(reading: Reading, prior_starts: Sequence[PriorStart] = ()) -> list[Guide]:
    """One guide a prompt; what is wrong goes to the reading's faults.

    Args:
        reading: of a request with prompts, negative_prompts, image_embeds, negative_image_embeds.
        prior_starts: what the prior starts from, one for all or one a prompt; none is noise.
    """
    embeds = reading.rows("image_embeds", (None, None))
    given = reading.request.HasField("image_embeds")
    texts = _prompts(reading, len(embeds) if given else None)
    count = len(embeds) if given else len(texts)
    negatives = _negatives(reading, count) if texts or not given else [None] * count
    negative_embeds = _negative_embeds(reading, count)
    guides = []
    for i in range(count):
        text, unwanted = texts[i] if texts else None, negatives[i]
        terms: tuple[Term, ...] = ()
        negative = None
        if given:
            terms = (Term(Source("image_embeds", embed=embeds[i])),)
        elif reading.has_prior and text is not None:
            terms = (Term(Source(text, text=text)),)
            negative = None if unwanted is None else Source(unwanted, text=unwanted)
        if negative_embeds:
            row = negative_embeds[i % len(negative_embeds)]
            negative = Source("negative_image_embeds", embed=row)
        guides.append(
            Guide(
                terms=terms,
                prior_start=prior_starts[i % len(prior_starts)] if prior_starts else None,
                unwanted=unwanted,
                negative=negative,
                text=text if reading.reads_text else None,
                negative_text=unwanted if reading.reads_text else None,
            )
        )
    return guides


def _prompts(reading: Reading, embeds: int | None) -> list[str]:
    """Keys of the prompts; none where embeddings stand in for them."""
    prompts, faults = reading.request.prompts, reading.faults
    if embeds is not None and not reading.entry.decoder_reads_text:
        if prompts:
            faults.add("image_embeds", "stands in for prompts; give one of the two")
        return []
    if not prompts:
        faults.add("prompts", "is empty; give at least one prompt")
    if embeds is not None and prompts and len(prompts) != embeds:
        rows = counted(embeds, "row")
        faults.add("prompts", f"there are {len(prompts)} for {rows} of image_embeds")
    for i, prompt in enumerate(prompts):
        # A decoder that reads text may be told nothing beside an embedding.
        reading.text(f"prompts[{i}]", prompt, required=embeds is None)
    return [f"prompts[{i}]" if prompt.strip() else EMPTY_TEXT for i, prompt in enumerate(prompts)]


def _negatives(reading: Reading, count: int) -> list[str | None]:
    """Keys of the negative prompts, one for each of `count` prompts; None where it is blank."""
    negatives = reading.request.negative_prompts
    keys = [reading.text(f"negative_prompts[{i}]", t) for i, t in enumerate(negatives)]
    reading.match("negative_prompts", len(negatives), count)
    if len(keys) != count:
        return [keys[0] if len(negatives) == 1 else None] * count
    return keys


def _negative_embeds(reading: Reading, count: int) -> list[tensor_pb2.Tensor]:
    request, faults, field = reading.request, reading.faults, "negative_image_embeds"
    given = request.HasField("image_embeds")
    if any(text.strip() for text in request.negative_prompts) and not reading.reads_text:
        if given:
            faults.add("negative_prompts", f"is not read beside image_embeds; use {field}")
        elif request.HasField(field):
            faults.add(field, "stands in for negative_prompts; give one of the two")
    if not request.HasField(field):
        if given and reading.settings.guided:
            faults.add(field, "is required with image_embeds and guidance")
        return []
    # Whether they are as wide as the model's embeddings, only the stages know.
    rows = reading.rows(field, (None, None))
    faults.one_or_each(f"{field}.shape", len(rows), count, "prompt", "has {} rows")
    return rows
