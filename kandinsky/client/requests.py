"""What a caller gives, as a request message. The one place where requests are built.

Options are named as the fields of the request, or of its settings; `image`, `mask` and `hint` take
one picture, or a list with one a prompt.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack

from google.protobuf.message import Message

from kandinsky.client import options as given
from kandinsky.client.options import Condition, Embedding, Mask, Picture
from kandinsky.client.pictures import encoded_array, put_picture
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire.errors import invalid

Request = TypeVar("Request", bound=Message)

DEFAULT_MODEL = "shapes"
_SETTINGS = generation.GenerationSettings.DESCRIPTOR.fields_by_name
RPCS: Mapping[type[Message], str] = {
    generation.TextToImageRequest: "TextToImage",
    generation.MixRequest: "Mix",
    generation.InterpolateFramesRequest: "InterpolateFrames",
    generation.ImageToImageRequest: "ImageToImage",
    generation.InpaintRequest: "Inpaint",
    generation.OutpaintRequest: "Outpaint",
    generation.VariationRequest: "Variation",
    generation.ControlRequest: "Control",
    generation.TextGuidedEditRequest: "TextGuidedEdit",
}
"""The streaming RPC that takes a request."""


def text_to_image(
    prompts: str | Sequence[str] = (), **options: Unpack[given.TextToImageOptions]
) -> generation.TextToImageRequest:
    """The request for pictures from prompts.

    Raises:
        KandinskyError: INVALID_FIELD for a value that does not fit its field's type.
        TypeError: an option is unknown.
    """
    request = generation.TextToImageRequest()
    return _filled(request, given.TextToImageOptions, options, prompts=prompts)


def mix(
    conditions: Sequence[Condition],
    weights: Sequence[float],
    **options: Unpack[given.MixOptions],
) -> generation.MixRequest:
    """The request for pictures from a weighted blend; errors as above, and for unequal lengths."""
    if len(conditions) != len(weights):
        each = f"give one for each condition, {len(conditions)} in all"
        raise invalid("weights", f"there are {len(weights)}; {each}")
    request = generation.MixRequest()
    for i, (condition, weight) in enumerate(zip(conditions, weights, strict=True)):
        side = request.conditions.add()
        _put_condition(side, condition, f"conditions[{i}]")
        _set(side, "weight", weight, f"conditions[{i}].weight")
    return _filled(request, given.MixOptions, options)


def interpolate_frames(
    first: Condition,
    last: Condition,
    frames: int,
    **options: Unpack[given.InterpolateFramesOptions],
) -> generation.InterpolateFramesRequest:
    """The request for pictures along the way from one condition to another; errors as above."""
    request = generation.InterpolateFramesRequest()
    _put_condition(request.first, first, "first")
    _put_condition(request.last, last, "last")
    return _filled(request, given.InterpolateFramesOptions, options, frames=frames)


def image_to_image(
    image: Picture | Sequence[Picture],
    prompts: str | Sequence[str] = (),
    **options: Unpack[given.ImageToImageOptions],
) -> generation.ImageToImageRequest:
    """The request for pictures that start from a picture; errors as above."""
    request = generation.ImageToImageRequest()
    return _filled(request, given.ImageToImageOptions, options, image=image, prompts=prompts)


def inpaint(
    image: Picture | Sequence[Picture],
    mask: Mask | Sequence[Mask],
    prompts: str | Sequence[str] = (),
    **options: Unpack[given.InpaintOptions],
) -> generation.InpaintRequest:
    """The request to make the masked part of a picture anew; errors as above."""
    request = generation.InpaintRequest()
    return _filled(request, given.InpaintOptions, options, image=image, mask=mask, prompts=prompts)


def outpaint(
    image: Picture | Sequence[Picture],
    prompts: str | Sequence[str] = (),
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    **options: Unpack[given.OutpaintOptions],
) -> generation.OutpaintRequest:
    """The request to continue a picture past its edges, margins in pixels; errors as above."""
    margins = {"top": top, "bottom": bottom, "left": left, "right": right}
    request = generation.OutpaintRequest()
    subject = {"image": image, "prompts": prompts, **margins}
    return _filled(request, given.OutpaintOptions, options, **subject)


def variation(
    image: Picture | Sequence[Picture], **options: Unpack[given.VariationOptions]
) -> generation.VariationRequest:
    """The request for pictures like a picture; errors as above."""
    return _filled(generation.VariationRequest(), given.VariationOptions, options, image=image)


def control(
    hint: Picture | Sequence[Picture],
    prompts: str | Sequence[str] = (),
    **options: Unpack[given.ControlOptions],
) -> generation.ControlRequest:
    """The request for pictures that keep to a hint; errors as above."""
    request = generation.ControlRequest()
    return _filled(request, given.ControlOptions, options, hint=hint, prompts=prompts)


def text_guided_edit(
    image: Picture,
    source_prompt: str,
    target_prompt: str,
    **options: Unpack[given.TextGuidedEditOptions],
) -> generation.TextGuidedEditRequest:
    """The request to change a picture as two texts differ; errors as above."""
    request = generation.TextGuidedEditRequest()
    texts = {"source_prompt": source_prompt, "target_prompt": target_prompt}
    return _filled(request, given.TextGuidedEditOptions, options, image=image, **texts)


def metadata(
    request_id: str | None, tenant: str | None, priority: int | None
) -> tuple[tuple[str, str], ...]:
    """A call's metadata; the server makes a request id where none is given.

    Raises:
        KandinskyError: INVALID_FIELD if a text is not printable ASCII.
    """
    found = {"x-request-id": request_id, "x-tenant": tenant}
    for key, text in found.items():
        if text is not None and not (text and text.isascii() and text.isprintable()):
            raise invalid(key, "is one or more printable ASCII characters")
    found["x-priority"] = None if priority is None else str(priority)
    return tuple((key, text) for key, text in found.items() if text is not None)


def _filled(request: Request, known: Any, options: Mapping[str, Any], **subject: Any) -> Request:
    unknown = options.keys() - known.__optional_keys__
    if unknown:
        flow = RPCS[type(request)]
        raise TypeError(f"{flow} has no option {', '.join(sorted(unknown))}")
    message: Any = request
    message.model = DEFAULT_MODEL
    for name, value in {**subject, **options}.items():
        if value is None:
            continue
        if name in _SETTINGS:
            _put(message.settings, _SETTINGS[name], value, f"settings.{name}")
        else:
            _put(message, request.DESCRIPTOR.fields_by_name[name], value, name)
    return request


def _put(message: Any, field: Any, value: Any, path: str) -> None:
    kind = field.message_type.name if field.message_type is not None else ""
    if kind == "InputImage":
        if isinstance(value, list | tuple):
            for i, picture in enumerate(value):
                several = f"{path}s"
                put_picture(getattr(message, several).add(), picture, f"{several}[{i}]")
        else:
            put_picture(getattr(message, field.name), value, path)
    elif kind == "Tensor":
        getattr(message, field.name).CopyFrom(encoded_array(value, path))
    elif field.enum_type is not None:
        _set_enum(message, field, value, path)
    elif field.is_repeated:
        for i, text in enumerate([value] if isinstance(value, str) else value):
            try:
                getattr(message, field.name).append(text)
            except (TypeError, ValueError) as error:
                raise invalid(f"{path}[{i}]", "is not Unicode text") from error
    else:
        _set(message, field.name, value, path)


def _set(message: Message, name: str, value: Any, path: str) -> None:
    try:
        setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise invalid(path, f"cannot be {value!r}") from error


def _set_enum(message: Message, field: Any, value: Any, path: str) -> None:
    """`png` for OUTPUT_FORMAT_PNG, and so on."""
    values = field.enum_type.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    names = {known.name.removeprefix(prefix).lower(): known.number for known in values[1:]}
    if value not in names:
        raise invalid(path, f"{value!r} is none of {', '.join(names)}")
    setattr(message, field.name, names[value])


def _put_condition(side: generation.MixCondition, condition: Condition, path: str) -> None:
    if isinstance(condition, str):
        _set(side, "text", condition, f"{path}.text")
    elif isinstance(condition, Embedding):
        side.image_embed.CopyFrom(encoded_array(condition.array, f"{path}.image_embed"))
    else:
        put_picture(side.image, condition, f"{path}.image")
