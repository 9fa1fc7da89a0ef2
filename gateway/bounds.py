"""Whether a model has a flow, and whether an answer fits into one message."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.plan import Draft
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation
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


def check_answer_size(draft: Draft, twin: str) -> None:
    """Refuses what would not fit into one message.

    Args:
        draft: the request.
        twin: the streaming RPC that can serve it.

    Raises:
        KandinskyError: ANSWER_TOO_LARGE.
    """
    width = _BYTES_A_VALUE.get(draft.settings.output.format, 1)
    estimate = draft.count * draft.output_pixels * 3 * width
    if estimate > MESSAGE_BYTES:
        raise KandinskyError(
            Reason.ANSWER_TOO_LARGE,
            f"{draft.count} images could take {estimate} bytes, and one message holds "
            f"{MESSAGE_BYTES}; call {twin}, which streams them",
            metadata={"rpc": twin},
        )
