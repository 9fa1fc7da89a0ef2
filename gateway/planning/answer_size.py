"""Whether an answer fits into one message."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.planning.generation_plan import GenerationPlan
from gateway.requests.violations import counted
from kandinsky.v1 import settings_pb2
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import KandinskyError, Reason

_BYTES_OF_A_FILE = 3
"""A pixel, at most: noise cannot be compressed."""
_BYTES_A_PIXEL: Mapping[int, int] = {
    settings_pb2.OUTPUT_FORMAT_PNG: _BYTES_OF_A_FILE,
    settings_pb2.OUTPUT_FORMAT_JPEG: _BYTES_OF_A_FILE,
    settings_pb2.OUTPUT_FORMAT_WEBP: _BYTES_OF_A_FILE,
    settings_pb2.OUTPUT_FORMAT_PIXELS: 3,
    settings_pb2.OUTPUT_FORMAT_FLOAT_PIXELS: 12,
    settings_pb2.OUTPUT_FORMAT_LATENTS: 3,  # four float32 a cell, of at least 4x4 pixels: up to 1
}
"""Of one answered image, at most."""
_BESIDE = 2**16
"""Bytes of an image's stats, of the parts of its file, and of its share in a message."""
RPC = "Generate"
"""Streams the images of an answer that is too large for one message."""


def check_answer_size(plan: GenerationPlan, *, streams: bool) -> None:
    """Refuse what would not fit into a message: an image of a stream's, or a whole unary answer.

    Args:
        plan: of the request.
        streams: whether each image is a message of its own.

    Raises:
        KandinskyError: ANSWER_TOO_LARGE, with what would fit.
    """
    each = _BYTES_A_PIXEL[plan.output.format]
    if _fits(plan, each, streams=streams):
        return
    pixels = max(plan.output_pixels) if streams else sum(plan.output_pixels)
    what = "an image" if streams else counted(len(plan.images), "image")
    name = settings_pb2.OutputFormat.Name(plan.output.format)
    too_large = (
        f"{what} of {pixels} pixels in all may take {pixels * each} bytes as "
        f"{name.removeprefix('OUTPUT_FORMAT_')}, and one message holds {MESSAGE_BYTES}"
    )
    if not streams and _fits(plan, each, streams=True):
        advice, metadata = f"call {RPC}, which streams them", {"rpc": RPC}
    elif _fits(plan, _BYTES_OF_A_FILE, streams=streams):
        advice, metadata = "ask for PNG", {"format": "PNG"}
    elif _fits(plan, _BYTES_OF_A_FILE, streams=True):
        advice = f"ask for PNG, and call {RPC}, which streams them"
        metadata = {"rpc": RPC, "format": "PNG"}
    else:
        advice, metadata = "ask for smaller images", {}
    raise KandinskyError(Reason.ANSWER_TOO_LARGE, f"{too_large}; {advice}", metadata=metadata)


def _fits(plan: GenerationPlan, bytes_a_pixel: int, *, streams: bool) -> bool:
    together = max if streams else sum
    return together(n * bytes_a_pixel + _BESIDE for n in plan.output_pixels) <= MESSAGE_BYTES
