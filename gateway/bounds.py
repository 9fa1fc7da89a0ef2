"""Whether a model has a flow, and whether an answer fits into one message."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.faults import counted
from gateway.plan import Draft
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import KandinskyError, Reason

_BYTES_OF_A_FILE = 3
"""A pixel, at most: noise cannot be compressed."""
_BYTES_A_PIXEL: Mapping[int, int] = {
    generation.OUTPUT_FORMAT_PNG: _BYTES_OF_A_FILE,
    generation.OUTPUT_FORMAT_JPEG: _BYTES_OF_A_FILE,
    generation.OUTPUT_FORMAT_WEBP: _BYTES_OF_A_FILE,
    generation.OUTPUT_FORMAT_PIXELS: 3,
    generation.OUTPUT_FORMAT_FLOAT_PIXELS: 12,
    generation.OUTPUT_FORMAT_LATENTS: 3,  # four float32 a cell, of at least 4x4 pixels: 1 and less
}
"""Of one answered image, at most."""
_BESIDE = 2**16
"""Bytes of an image's stats, of the parts of its file, and of its share in a message."""
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


def check_answer_size(draft: Draft, rpc: str, *, streams: bool) -> None:
    """Refuse what would not fit into a message: an image of a stream's, or a whole unary answer.

    Args:
        draft: the request.
        rpc: the streaming RPC of its flow.
        streams: whether that one was called, and not its unary twin.

    Raises:
        KandinskyError: ANSWER_TOO_LARGE, with what would fit.
    """
    each = _BYTES_A_PIXEL[draft.settings.output.format]
    if _fits(draft, each, streams=streams):
        return
    pixels = max(draft.output_pixels) if streams else sum(draft.output_pixels)
    what = "an image" if streams else counted(draft.count, "image")
    name = generation.OutputFormat.Name(draft.settings.output.format)
    too_large = (
        f"{what} of {pixels} pixels in all may take {pixels * each} bytes as "
        f"{name.removeprefix('OUTPUT_FORMAT_')}, and one message holds {MESSAGE_BYTES}"
    )
    if not streams and _fits(draft, each, streams=True):
        advice, metadata = f"call {rpc}, which streams them", {"rpc": rpc}
    elif _fits(draft, _BYTES_OF_A_FILE, streams=streams):
        advice, metadata = "ask for PNG", {"format": "PNG"}
    elif _fits(draft, _BYTES_OF_A_FILE, streams=True):
        advice = f"ask for PNG, and call {rpc}, which streams them"
        metadata = {"rpc": rpc, "format": "PNG"}
    else:
        advice, metadata = "ask for smaller images", {}
    raise KandinskyError(Reason.ANSWER_TOO_LARGE, f"{too_large}; {advice}", metadata=metadata)


def _fits(draft: Draft, bytes_a_pixel: int, *, streams: bool) -> bool:
    together = max if streams else sum
    return together(n * bytes_a_pixel + _BESIDE for n in draft.output_pixels) <= MESSAGE_BYTES
