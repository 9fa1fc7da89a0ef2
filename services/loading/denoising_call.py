"""How runtime options call a denoising network: rows padded, inputs laid out, graphs replayed.

Every wrapper takes a network's arguments by name, tensors of [rows, ...] alone or in mappings,
and gives its outputs as a tuple of [rows, ...]: diffusers' `return_dict=False`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._dynamo.exc import InvalidBackend

from services.loading.runtime_options import OptionRefused, RuntimeOptions

Call = Callable[..., tuple[torch.Tensor, ...]]

MOST_SHAPES = 256
"""Combinations of bucket and canvas size that are compiled; torch runs further ones uncompiled."""


def denoising_call(network: torch.nn.Module, options: RuntimeOptions) -> Call:
    """A denoising network's call as the options have it; the network itself without any.

    Raises:
        OptionRefused: torch has no such compile_backend.
    """
    call: Call = network
    if options.buckets_rows:
        call = _compiled(network, options)
    if options.cuda_graphs:
        call = Replayed(call)
    if options.channels_last:
        call = LaidOut(call)
    if options.buckets_rows:
        call = Bucketed(call, options.row_buckets)
    return call


class Bucketed:
    """Pads rows up to the next bucket with copies of the last one, and cuts them off the output.

    More rows than the largest bucket become a multiple of it.
    """

    def __init__(self, call: Call, buckets: tuple[int, ...]) -> None:
        self._call = call
        self._buckets = buckets

    def __call__(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        rows = _rows(arguments)
        missing = self._bucket(rows) - rows
        if missing:
            arguments = _changed(arguments, lambda tensor: _padded(tensor, missing))
        return tuple(part[:rows] for part in self._call(**arguments))

    def _bucket(self, rows: int) -> int:
        largest = self._buckets[-1]
        rounded = -(-rows // largest) * largest
        return next((bucket for bucket in self._buckets if bucket >= rows), rounded)


class LaidOut:
    """Gives pictures [rows, C, H, W] to a network whose weights are laid out as NHWC likewise."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        return self._call(**_changed(arguments, channels_last))


class Replayed:
    """Keeps outputs of a CUDA graph, whose own memory the next replay writes over."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        return tuple(part.clone() for part in self._call(**arguments))


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """A picture [rows, C, H, W] laid out as NHWC; any other tensor as it is."""
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _compiled(network: torch.nn.Module, options: RuntimeOptions) -> Call:
    chosen: dict[str, str] = {"backend": options.compile_backend}
    if not options.compile:
        chosen = {"backend": "cudagraphs"}
    elif options.cuda_graphs:
        chosen["mode"] = "reduce-overhead"
    try:
        return torch.compile(
            network, dynamic=False, recompile_limit=MOST_SHAPES, isolate_recompiles=True, **chosen
        )
    except InvalidBackend as error:
        known = ", ".join(torch.compiler.list_backends())
        raise OptionRefused(
            f"runtime.compile_backend: {options.compile_backend} is none of {known}"
        ) from error


def _rows(arguments: Mapping[str, Any]) -> int:
    return len(next(value for value in arguments.values() if isinstance(value, torch.Tensor)))


def _padded(tensor: torch.Tensor, missing: int) -> torch.Tensor:
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def _changed(
    arguments: Mapping[str, Any], change: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Any]:
    """The arguments with every tensor changed, those in mappings too."""
    return {
        name: change(value)
        if isinstance(value, torch.Tensor)
        else _changed(value, change)
        if isinstance(value, Mapping)
        else value
        for name, value in arguments.items()
    }
