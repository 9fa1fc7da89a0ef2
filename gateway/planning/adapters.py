"""The adapters of a request as the stages take them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.planning.conditioning import Encodings
from gateway.planning.generation_plan import GenerationPlan
from gateway.planning.stage_request import StageRequest
from gateway.requests.adapters import NamedAdapter
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1 import adapters_pb2, decoder_pb2, tensor_pb2

_OF_TEXT = (AdapterKind.LORA, AdapterKind.TEXTUAL_INVERSION)
_MADE = ("image_embeds", "image_states", "negative_image_states")
"""Of images, by an image encoder."""


def text_adapters(plan: GenerationPlan) -> list[adapters_pb2.Adapter]:
    """For the text encoder; none where none would change it."""
    named = plan.request.adapters
    if not any(each.kind in _OF_TEXT for each in named):
        return []
    return [_without_prompt(each.message) for each in named]


def decoder_adapters(plan: GenerationPlan, encodings: Encodings) -> list[adapters_pb2.Adapter]:
    """For the decoder, with what the image encoder made of their images."""
    return [
        _shown(each, encodings) if each.images else each.message for each in plan.request.adapters
    ]


def put_adapters(
    request: StageRequest[decoder_pb2.DecodeRequest],
    plan: GenerationPlan,
    adapters: Sequence[adapters_pb2.Adapter],
) -> None:
    """Set the adapters of a decoder's job.

    Args:
        request: the job.
        plan: of its request.
        adapters: from `decoder_adapters`.
    """
    request.extend("adapters", adapters, "adapters")
    for i, each in enumerate(plan.request.adapters):
        if each.images:
            path = f"adapters[{i}].image_prompt"
            request.origins |= {f"{path}.{name}": f"{path}.images" for name in _MADE}


def _without_prompt(message: adapters_pb2.Adapter) -> adapters_pb2.Adapter:
    found = adapters_pb2.Adapter()
    found.CopyFrom(message)
    found.ClearField("image_prompt")
    return found


def _shown(adapter: NamedAdapter, encodings: Encodings) -> adapters_pb2.Adapter:
    made = [encodings.image(image) for image in adapter.images]
    message = adapters_pb2.Adapter()
    message.CopyFrom(adapter.message)
    message.image_prompt.CopyFrom(
        adapters_pb2.ImagePrompt(
            image_embeds=_stacked([each.image_embed for each in made]),
            image_states=_stacked([each.image_states for each in made]),
            negative_image_states=_stacked([made[0].blank_image_states]),  # one for all
        )
    )
    return message


def _stacked(rows: Sequence[tensor_pb2.Tensor]) -> tensor_pb2.Tensor:
    """Tensors of one shape as one, a row each."""
    shape = [len(rows), *rows[0].shape]
    data = b"".join(row.data for row in rows)
    return tensor_pb2.Tensor(dtype=rows[0].dtype, shape=shape, data=data)
