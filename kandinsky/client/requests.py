"""What a caller gives, as a request message. The one place where both clients build requests."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from google.protobuf.message import Message

from kandinsky.v1 import generation_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid

DEFAULT_MODEL = "shapes"

OutputFormat = Literal["png", "jpeg", "webp", "pixels", "float_pixels", "latents"]

FORMATS: Mapping[str, generation_pb2.OutputFormat] = {
    "png": generation_pb2.OUTPUT_FORMAT_PNG,
    "jpeg": generation_pb2.OUTPUT_FORMAT_JPEG,
    "webp": generation_pb2.OUTPUT_FORMAT_WEBP,
    "pixels": generation_pb2.OUTPUT_FORMAT_PIXELS,
    "float_pixels": generation_pb2.OUTPUT_FORMAT_FLOAT_PIXELS,
    "latents": generation_pb2.OUTPUT_FORMAT_LATENTS,
}


class GenerationOptions(TypedDict, total=False):
    """What every flow can be told; one left out, or None, takes the model's default."""

    model: str
    """Name of a model that the server lists. Default: `shapes`."""
    images_per_prompt: int | None
    height: int | None
    """Pixels."""
    width: int | None
    """Pixels."""
    steps: int | None
    """Denoising steps of the decoder."""
    guidance_scale: float | None
    """Of the decoder; 1 or less means none."""
    prior_steps: int | None
    prior_guidance_scale: float | None
    seed: int | None
    """Image i is drawn with `seed + i`. Left out: the server draws one and returns it."""
    scheduler: str | None
    output_format: OutputFormat | None
    """Default: png. `pixels` is uint8 [H, W, 3], `float_pixels` float32 from 0 to 1."""
    output_quality: int | None
    """JPEG and WebP, 1 to 100."""


class TextToImageOptions(GenerationOptions, total=False):
    """What text to image can be told besides its prompts."""

    negative_prompts: str | Sequence[str] | None
    """None, one for all, or one a prompt."""
    latents: Any
    """Array [images, C, h, w]: initial noise of the decoder."""
    prior_latents: Any
    """Array [images, D]: initial noise of the prior."""
    image_embeds: Any
    """Array [prompts, D]: image embeddings in place of prompts."""
    negative_image_embeds: Any
    """Array [1 or prompts, D]: in place of negative prompts."""


_SETTINGS = tuple(GenerationOptions.__optional_keys__ - {"model", "output_format"})
_TENSORS = ("latents", "prior_latents", "image_embeds", "negative_image_embeds")


def text_to_image(
    prompts: str | Sequence[str] = (), **options: Unpack[TextToImageOptions]
) -> generation_pb2.TextToImageRequest:
    """The request for pictures from prompts.

    Raises:
        KandinskyError: INVALID_FIELD for a value that does not fit its field's type.
        TypeError: an option is unknown.
    """
    unknown = options.keys() - TextToImageOptions.__optional_keys__
    if unknown:
        raise TypeError(f"text_to_image has no option {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    request = generation_pb2.TextToImageRequest()
    _set(request, "model", given.get("model", DEFAULT_MODEL), "model")
    _extend(request, "prompts", prompts)
    _extend(request, "negative_prompts", given.get("negative_prompts", ()))
    _fill_settings(request.settings, given)
    for name in _TENSORS:
        if name in given:
            getattr(request, name).CopyFrom(_tensor(given[name], name))
    return request


def metadata(request_id: str | None) -> tuple[tuple[str, str], ...]:
    """The call's metadata; the server makes a request id where none is given.

    Raises:
        KandinskyError: INVALID_FIELD if the id is not printable ASCII.
    """
    if request_id is None:
        return ()
    if not request_id or not (request_id.isascii() and request_id.isprintable()):
        raise invalid("x-request-id", "is one or more printable ASCII characters")
    return (("x-request-id", request_id),)


def _fill_settings(settings: generation_pb2.GenerationSettings, given: Mapping[str, Any]) -> None:
    for name in _SETTINGS:
        if name in given:
            _set(settings, name, given[name], f"settings.{name}")
    if "output_format" in given:
        name = given["output_format"]
        if name not in FORMATS:
            raise invalid("settings.output_format", f"{name!r} is none of {', '.join(FORMATS)}")
        settings.output_format = FORMATS[name]


def _set(message: Message, name: str, value: Any, field: str) -> None:
    try:
        setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise invalid(field, f"cannot be {value!r}") from error


def _extend(message: Message, name: str, texts: str | Sequence[str]) -> None:
    for index, text in enumerate([texts] if isinstance(texts, str) else texts):
        try:
            getattr(message, name).append(text)
        except (TypeError, ValueError) as error:
            raise invalid(f"{name}[{index}]", "is not Unicode text") from error


def _tensor(value: Any, field: str) -> Any:
    try:
        return tensors.encode(np.asarray(value))
    except TypeError as error:
        raise invalid(field, f"is no array of numbers: {error}") from error
