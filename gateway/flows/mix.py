"""Mix, and the frames of a path: a blend of texts and pictures steers, the canvas is noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.flows import starts
from gateway.plan import Draft, Guide, ImagePlan, PendingStart, Source, Start, Term
from gateway.reading import Reading
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation


def mix(request: generation.MixRequest, models: Mapping[str, CatalogEntry]) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.MIX, models)
    if not request.conditions:
        reading.faults.add("conditions", "is empty; give at least one")
    terms = [
        Term(_source(reading, condition, f"conditions[{i}]"), _weight(reading, condition, i))
        for i, condition in enumerate(request.conditions)
    ]
    if terms and not any(term.weight for term in terms):
        reading.faults.add("conditions", "every weight is 0; give one that is not")
    blend = _Blend.read(reading, terms)
    reading.check_images(1, "mix")
    return reading.plan(
        [blend.guide(terms)], [PendingStart(partial(starts.noise, reading.settings))]
    )


def interpolate_frames(
    request: generation.InterpolateFramesRequest, models: Mapping[str, CatalogEntry]
) -> Draft:
    """The plan of a request; errors as of text to image."""
    reading = Reading(request, Flow.MIX, models)
    first, last = (_source(reading, getattr(request, end), end) for end in ("first", "last"))
    blend = _Blend.read(reading, [Term(first), Term(last)])
    reading.faults.integer("frames", request.frames, 2, reading.entry.limits.max_images)
    if request.settings.HasField("images_per_prompt"):
        reading.faults.add("settings.images_per_prompt", "is not read here; give frames")
    latents, prior_latents = reading.one("latents", 3), reading.one("prior_latents", 1)
    reading.check_seed(1)
    reading.faults.raise_any()
    seed = reading.seed(1)
    shares = [index / (request.frames - 1) for index in range(request.frames)]
    guides = [blend.guide([Term(first, 1 - share), Term(last, share)]) for share in shares]

    def images(made: Sequence[Start]) -> tuple[ImagePlan, ...]:
        return tuple(
            ImagePlan(index, seed, guide, made[0], latents, prior_latents)
            for index, guide in enumerate(guides)
        )

    return reading.draft(guides, [PendingStart(partial(starts.noise, reading.settings))], images)


@dataclass(frozen=True)
class _Blend:
    """What a mix and the frames of a path have in common."""

    spherical: bool
    unwanted: str | None
    negative: Source | None
    text: str | None
    negative_text: str | None

    @classmethod
    def read(cls, reading: Reading, terms: list[Term]) -> _Blend:
        """Reads it, and the settings."""
        request, faults = reading.request, reading.faults
        negative = reading.text("negative_prompt", request.negative_prompt)
        unwanted = reading.text("negative_prior_prompt", request.negative_prior_prompt)
        # As KandinskyPriorPipeline.interpolate: without a negative prompt, what the prior steers
        # away from has a run of its own, and the decoder steers away from its result.
        avoided = negative or unwanted
        runs = any(term.source.text for term in terms) or avoided is not None
        reading.settle(prior_runs=reading.has_prior and runs)
        if request.interpolation not in generation.Interpolation.values():
            faults.add("interpolation", f"{request.interpolation} is no known way")
        spherical = request.interpolation == generation.INTERPOLATION_SPHERICAL
        if spherical and any(term.weight < 0 for term in terms):
            faults.add("conditions", "a spherical blend has no weight below 0")
        source = Source(avoided, text=avoided) if avoided is not None else None
        embed = reading.one("negative_image_embed", 1)
        if embed is not None:
            if negative is not None and not reading.reads_text:
                field = "negative_image_embed"
                faults.add(field, "stands in for negative_prompt; give one of the two")
            source = Source("negative_image_embed", embed=embed)
        return cls(spherical, unwanted, source, reading.told(), negative)

    def guide(self, terms: list[Term]) -> Guide:
        """The guide of a blend."""
        return Guide(
            terms=tuple(terms),
            spherical=self.spherical,
            unwanted=self.unwanted,
            negative=self.negative,
            text=self.text,
            negative_text=self.negative_text if self.text is not None else None,
        )


def _source(reading: Reading, condition: generation.MixCondition, path: str) -> Source:
    kind = condition.WhichOneof("source")
    field = f"{path}.{kind}" if kind else path
    if kind == "text":
        return Source(field, text=reading.text(field, condition.text, required=True))
    if kind == "image":
        found = reading.picture(condition.image, field, latents=False)
        return Source(field, picture=reading.show(found[0]) if found else None)
    if kind == "image_embed":
        reading.faults.floats(field, condition.image_embed, (None,))
        return Source(field, embed=condition.image_embed)
    reading.faults.add(field, "is empty; give a text, an image or an image_embed")
    return Source(field)


def _weight(reading: Reading, condition: generation.MixCondition, index: int) -> float:
    field = f"conditions[{index}].weight"
    if not condition.HasField("weight"):
        reading.faults.add(field, "is required")
        return 1.0
    if not math.isfinite(condition.weight):
        reading.faults.add(field, f"{condition.weight} is not finite")
        return 1.0
    return condition.weight
