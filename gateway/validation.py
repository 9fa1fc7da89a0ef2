"""Checks a request against its model's catalog entry before any stage is asked.

What only a checkpoint can tell (token counts, embedding widths) is left to the stages.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from gateway.faults import Faults
from gateway.plan import EMPTY_TEXT, ImagePlan, TextToImagePlan
from gateway.settings import Settings, resolve_settings
from kandinsky.catalog.catalog import CatalogEntry, Flow, Limits, Stage
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import KandinskyError, Reason

_BYTES_A_VALUE: Mapping[int, int] = {
    generation.OUTPUT_FORMAT_FLOAT_PIXELS: 4,
    generation.OUTPUT_FORMAT_LATENTS: 4,
}
_NAME_CHARACTERS = 64


def served(model: str, flow: Flow, models: Mapping[str, CatalogEntry]) -> CatalogEntry:
    """The entry of a model that has a flow.

    Raises:
        KandinskyError: MODEL_NOT_FOUND or FLOW_UNSUPPORTED.
    """
    entry = models.get(model)
    if entry is None:
        name, names = model[:_NAME_CHARACTERS], ", ".join(sorted(models))
        raise KandinskyError(
            Reason.MODEL_NOT_FOUND,
            f"no model {name!r} is served here; there is {names}",
            metadata={"model": name, "served": names},
        )
    if flow not in entry.flows:
        raise KandinskyError(
            Reason.FLOW_UNSUPPORTED,
            f"model {model} does not have the flow {flow.value}",
            metadata={"flow": flow.value, "model": model},
        )
    return entry


def text_to_image(
    request: generation.TextToImageRequest, models: Mapping[str, CatalogEntry]
) -> TextToImagePlan:
    """The plan of a text to image request.

    Raises:
        KandinskyError: MODEL_NOT_FOUND, FLOW_UNSUPPORTED, or INVALID_FIELD with every violation
            by its path in the request.
    """
    entry = served(request.model, Flow.TEXT_TO_IMAGE, models)
    faults = Faults()
    embeds_given = request.HasField("image_embeds")
    has_prior = Stage.PRIOR in entry.stages and not embeds_given
    settings = resolve_settings(request.settings, entry, faults, has_prior=has_prior)
    embeds: Sequence[tensor_pb2.Tensor] = ()
    if embeds_given:
        embeds = faults.floats("image_embeds", request.image_embeds, (None, None))
        _check_no_texts(request, faults)
        if settings.guided and not request.HasField("negative_image_embeds"):
            faults.add("negative_image_embeds", "is required with image_embeds and guidance")
    else:
        check_prompts(request.prompts, request.negative_prompts, entry.limits, faults)
    count = len(embeds) if embeds_given else len(request.prompts)
    _check_count(count, settings, entry.limits, faults)
    faults.raise_any()

    total = count * settings.images_per_prompt
    negative_embeds = _negative_embeds(request, embeds, count, faults)
    latents: Sequence[tensor_pb2.Tensor] = ()
    prior_latents: Sequence[tensor_pb2.Tensor] = ()
    if request.HasField("latents"):
        latents = faults.floats("latents", request.latents, (total, None, None, None))
    if request.HasField("prior_latents"):
        if has_prior:
            prior_latents = faults.floats("prior_latents", request.prior_latents, (total, None))
        else:
            faults.add("prior_latents", "no prior runs for this request")
    seed = _seed(request.settings, total, faults)
    faults.raise_any()

    negatives = _negative_keys(request.negative_prompts, count)
    images = []
    for index in range(total):
        prompt = index // settings.images_per_prompt
        images.append(
            ImagePlan(
                index=index,
                seed=seed + index,
                prompt=None if embeds else f"prompts[{prompt}]",
                negative_prompt=negatives[prompt],
                latents=latents[index] if latents else None,
                prior_latents=prior_latents[index] if prior_latents else None,
                image_embed=embeds[prompt] if embeds else None,
                negative_image_embed=(
                    negative_embeds[prompt % len(negative_embeds)] if negative_embeds else None
                ),
            )
        )
    texts = {} if embeds else _texts(request, negatives, settings)
    return TextToImagePlan(entry, settings, texts, tuple(images))


def check_prompts(
    prompts: Sequence[str], negatives: Sequence[str], limits: Limits, faults: Faults
) -> None:
    """Notes prompts that are missing, empty or too long, and negatives that do not match them."""
    if not prompts:
        faults.add("prompts", "is empty; give at least one prompt")
    for i, prompt in enumerate(prompts[: limits.max_images]):
        if not prompt.strip():
            faults.add(f"prompts[{i}]", "is empty")
        _check_length(f"prompts[{i}]", prompt, limits, faults)
    if len(negatives) not in (0, 1, len(prompts)):
        faults.add(
            "negative_prompts",
            f"there are {len(negatives)} for {len(prompts)} prompts; "
            "give none, one for all, or one for each",
        )
    for i, negative in enumerate(negatives[: limits.max_images]):
        _check_length(f"negative_prompts[{i}]", negative, limits, faults)


def check_answer_size(plan: TextToImagePlan, twin: str) -> None:
    """Refuses what would not fit into one message.

    Args:
        plan: the request.
        twin: the streaming RPC that can serve it.

    Raises:
        KandinskyError: ANSWER_TOO_LARGE.
    """
    settings = plan.settings
    width = _BYTES_A_VALUE.get(settings.output.format, 1)
    estimate = len(plan.images) * settings.height * settings.width * 3 * width
    if estimate > MESSAGE_BYTES:
        raise KandinskyError(
            Reason.ANSWER_TOO_LARGE,
            f"{len(plan.images)} images could take {estimate} bytes, and one message holds "
            f"{MESSAGE_BYTES}; call {twin}, which streams them",
            metadata={"rpc": twin},
        )


def _check_length(field: str, text: str, limits: Limits, faults: Faults) -> None:
    if len(text) > limits.max_prompt_characters:
        most = limits.max_prompt_characters
        faults.add(field, f"has {len(text)} characters; the most is {most}")


def _check_no_texts(request: generation.TextToImageRequest, faults: Faults) -> None:
    if request.prompts:
        faults.add("image_embeds", "stands in for prompts; give one of the two")
    if any(text.strip() for text in request.negative_prompts):
        faults.add("negative_prompts", "is not read beside image_embeds; use negative_image_embeds")


def _check_count(count: int, settings: Settings, limits: Limits, faults: Faults) -> None:
    if count > limits.max_images:
        faults.add(
            "prompts", f"there are {count}; a request may ask for {limits.max_images} images"
        )
        return
    each = settings.images_per_prompt
    if each < 1:
        faults.add("settings.images_per_prompt", f"{each} is less than 1")
    elif count * each > limits.max_images:
        faults.add(
            "settings.images_per_prompt",
            f"{each} for each of {count} prompts are {count * each} images; "
            f"the most is {limits.max_images}",
        )


def _negative_embeds(
    request: generation.TextToImageRequest,
    embeds: Sequence[tensor_pb2.Tensor],
    count: int,
    faults: Faults,
) -> Sequence[tensor_pb2.Tensor]:
    field = "negative_image_embeds"
    if not request.HasField("negative_image_embeds"):
        return ()
    if any(text.strip() for text in request.negative_prompts):
        faults.add(field, "stands in for negative_prompts; give one of the two")
    width = embeds[0].shape[0] if embeds else None
    rows = faults.floats(field, request.negative_image_embeds, (None, width))
    if rows and len(rows) not in (1, count):
        faults.add(f"{field}.shape", f"has {len(rows)} rows; give 1 or {count}")
    return rows


def _seed(message: generation.GenerationSettings, images: int, faults: Faults) -> int:
    if not message.HasField("seed"):
        return secrets.randbelow(2**63 - images)
    faults.integer("settings.seed", message.seed, 0, 2**63 - 1 - images)
    return message.seed


def _negative_keys(negatives: Sequence[str], count: int) -> list[str | None]:
    keys = [f"negative_prompts[{i}]" if text.strip() else None for i, text in enumerate(negatives)]
    return keys * count if len(keys) == 1 else keys or [None] * count


def _texts(
    request: generation.TextToImageRequest, negatives: Sequence[str | None], settings: Settings
) -> dict[str, str]:
    texts = {f"prompts[{i}]": prompt for i, prompt in enumerate(request.prompts)}
    if settings.guided or settings.prior_guided:
        wanted = {key for key in negatives if key is not None}
        for i, negative in enumerate(request.negative_prompts):
            if f"negative_prompts[{i}]" in wanted:
                texts[f"negative_prompts[{i}]"] = negative
        if None in negatives:
            texts[EMPTY_TEXT] = ""
    return texts
