"""Plans a validated request: which texts, embeddings and runs each image needs, by its family.

What a stage reads, and what the unconditional side of its guidance is, the family declares; no rule
here asks which family it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from gateway.planning.generation_plan import (
    DecoderConditioning,
    GenerationPlan,
    ImagePlan,
    PriorRun,
)
from gateway.planning.work import work_of
from gateway.requests.input_images import InputImage
from gateway.requests.settings import PriorSettings
from gateway.requests.sources import Item, Source, Text, value_for
from gateway.requests.undecoded import Undecoded
from gateway.requests.validated import ValidatedRequest
from kandinsky.catalog.family import FamilySpec, Stage, Unconditional

EMPTY = Text("negative.texts", "")
"""What guidance steers away from where nothing is named, if the family's rule is the empty text."""


def plan(request: ValidatedRequest) -> GenerationPlan:
    """The plan of a request."""
    each, starts = request.images_per_prompt, request.canvas.starts
    planned = [_planned(request, i, item) for i, item in enumerate(request.guide.items)]
    settings, upscaling = request.settings, request.settings.super_resolution
    images = []
    for index in range(len(planned) * each):
        item = index // each
        conditioning, runs = planned[item]
        images.append(
            ImagePlan(
                index=index,
                seed=request.seed if request.guide.seed_is_shared else request.seed + index,
                prior_runs=tuple(map(_prior_run(request, item, index), runs)) if runs else (),
                conditioning=conditioning,
                start=starts[item % len(starts)],
                hint=value_for(request.hints, item),
                latents=value_for(settings.decoder.latents, index),
                super_resolution_latents=value_for(upscaling.latents if upscaling else (), index),
            )
        )
    encoder_images = tuple(_encoder_images(request, images))
    return GenerationPlan(
        request=request,
        texts=tuple(_texts(request, images, has_images=bool(encoder_images))),
        encoder_images=encoder_images,
        images=tuple(images),
        work=work_of(request, images),
    )


def _planned(
    request: ValidatedRequest, index: int, item: Item
) -> tuple[DecoderConditioning, Sequence[Text]]:
    """What the decoder reads for an item, and the texts that the prior samples for it."""
    spec, decoder = request.entry.spec, request.settings.decoder
    text = negative_text = negative_source = None
    if spec.decoder_reads_text and not _has_text(item):
        text = value_for(decoder.texts, index)
        if text is None:
            text = item.text or Text("decoder.texts", "")
        if decoder.guided:
            negative_text = _negative_text(request, index) or item.negative_text
    if spec.decoder_reads_image and decoder.guided:
        negative_source = _negative_source(request, index)
    shown, ratio = _attended(item) if spec.decoder_attends_to_image else (None, None)
    conditioning = DecoderConditioning(
        image=shown,
        negative_image=(
            value_for(request.negative.images, index) if shown and decoder.guided else None
        ),
        mix_ratio=ratio,
        sources=tuple(part for part in item.sources if part.weight and spec.decoder_reads_image),
        spherical=item.spherical,
        text_diff=item.text_diff,
        text=text,
        negative_source=negative_source,
        negative_text=negative_text,
        given=item.given or None,
    )
    sources = [*(part.source for part in conditioning.sources), negative_source]
    runs: dict[str, Text] = {}
    for source in sources:
        if isinstance(source, Text):
            runs.setdefault(source.text, source)
    return conditioning, list(runs.values())


def _attended(item: Item) -> tuple[Undecoded[InputImage] | None, float | None]:
    """The image that a decoder attends to for an item, and the share of the text beside it."""
    if item.given:
        return None, None
    only = next((part.source for part in item.sources if isinstance(part.source, Undecoded)), None)
    image = item.image or only
    alone = 1.0 if image is None else 0.0
    return image, alone if item.mix_ratio is None else item.mix_ratio


def _negative_text(request: ValidatedRequest, index: int) -> Text | None:
    """What a decoder that reads text steers away from; None for the family's rule."""
    own = request.settings.decoder.negative_texts
    return value_for(own or request.negative.texts, index) or None


def _negative_source(request: ValidatedRequest, index: int) -> Source | None:
    """What the image embedding to steer away from is made from; None for the family's rule.

    As in the pipelines of the Kandinsky priors, a negative text has a run of its own; without one,
    what the prior's runs steer away from has it.
    """
    embedding = value_for(request.negative.image_embeds, index)
    prior = request.settings.prior
    if embedding is not None or prior is None:
        return embedding
    return (
        value_for(request.negative.texts, index) or value_for(prior.negative_texts, index) or None
    )


def _prior_run(request: ValidatedRequest, item: int, index: int) -> Callable[[Text], PriorRun]:
    """Makes the prior runs of an image, each of a text."""
    prior = request.settings.prior
    if prior is None:
        raise ValueError("a text needs the prior, but the request has no settings for it")
    return partial(
        PriorRun,
        negative=_prior_negative(request, prior, item) if prior.guided else None,
        start=None if prior.start is None else value_for(prior.start.sources, item),
        latents=value_for(prior.latents, index),
    )


def _prior_negative(request: ValidatedRequest, prior: PriorSettings, item: int) -> Text | None:
    given = request.guide.items[item].negative_text
    named = prior.negative_texts
    if not named and request.guide.prior_negative_is_shared:
        named = request.negative.texts
    rule = EMPTY if needs_empty_text(request.entry.spec, Stage.PRIOR) else None
    return given or value_for(named, item) or rule


def _encoder_images(
    request: ValidatedRequest, images: Iterable[ImagePlan]
) -> Iterator[Undecoded[InputImage]]:
    """What the image encoder reads, each once: of the guide, those of no weight too."""
    sources: list[object] = []
    if request.entry.spec.decoder_reads_image:
        sources += [part.source for item in request.guide.items for part in item.sources]
    sources += [image.conditioning.image for image in images]
    sources += [image.conditioning.negative_image for image in images]
    sources += [run.start for image in images for run in image.prior_runs]
    sources += [image for adapter in request.adapters for image in adapter.images]
    yield from dict.fromkeys(source for source in sources if isinstance(source, Undecoded))


def _texts(
    request: ValidatedRequest, images: Sequence[ImagePlan], *, has_images: bool
) -> Iterator[Text]:
    """The texts that are encoded, each once: the guide's, those of no weight too, then what the
    decoder reads, then what both samplers steer away from, "" last."""
    needed: list[Text | None] = []
    for item in request.guide.items:
        parts = (part.source for part in item.sources)
        needed += [source for source in parts if isinstance(source, Text)]
        if item.text_diff is not None:
            needed += [item.text_diff.source, item.text_diff.target]
    for image in images:
        needed.append(image.conditioning.text)
    for image in images:
        needed += [run.negative for run in image.prior_runs]
        needed += [run.text for run in image.prior_runs]
        needed.append(_negative_of_decoder(request, image.conditioning))
    read = [text for text in needed if text is not None and text.encoded is None]
    found = {text.text: text for text in reversed(read)}
    texts = [text for text in dict.fromkeys(text.text for text in read) if text]
    yield from (found[text] for text in texts)
    if "" in found or (not texts and not has_images and _reads_zero_image(request, images)):
        yield found.get("", EMPTY)


def _negative_of_decoder(
    request: ValidatedRequest, conditioning: DecoderConditioning
) -> Text | None:
    """The text that the decoder steers away from; None for none, and where the rule needs none."""
    if conditioning.text is None or not request.settings.decoder.guided:
        return None
    if conditioning.negative_text is None and needs_empty_text(request.entry.spec, Stage.DECODER):
        return EMPTY
    return conditioning.negative_text


def _reads_zero_image(request: ValidatedRequest, images: Iterable[ImagePlan]) -> bool:
    """Whether an image steers away from the zero embedding, which comes with any answer."""
    rules = {part.unconditional for part in request.entry.spec.reads[Stage.DECODER]}
    return (
        Unconditional.ZERO_IMAGE in rules
        and request.settings.decoder.guided
        and any(
            image.conditioning.negative_source is None and image.conditioning.given is None
            for image in images
        )
    )


def needs_empty_text(spec: FamilySpec, stage: Stage) -> bool:
    """Whether a stage's guidance steers away from the encoding of "" where nothing is named."""
    return any(part.unconditional is Unconditional.EMPTY_TEXT for part in spec.reads[stage])


def _has_text(item: Item) -> bool:
    return any(name.startswith("text_") for name in item.given)
