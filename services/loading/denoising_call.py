"""How runtime options call a network: rows padded, inputs laid out, compiled, captured.

Every wrapper takes a network's arguments by name, tensors of [rows, ...] alone or in mappings,
and gives its outputs as a tuple of [rows, ...]: diffusers' `return_dict=False`.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch._dynamo.exc import InvalidBackend
from torch.utils import _pytree as pytree

from services.loading.runtime_options import OptionRefused, RuntimeOptions

Call = Callable[..., tuple[torch.Tensor, ...]]

MOST_SHAPES = 256
"""Canvas sizes and layouts that are compiled; torch runs further ones uncompiled."""
USUAL_ROWS = 16
"""A graph is compiled once for all row counts, with kernels that suit this one."""
COMPILING = {
    # Which modules a network has does not change after it is loaded: asking took as long as a
    # twentieth of a small network's forward.
    "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe,
    "size_asserts": False,
}
"""Options of inductor."""
WARM_UPS = 2
"""Calls before a capture: libraries allocate what they keep."""


def denoising_call(network: Callable[..., Any], options: RuntimeOptions) -> Call:
    """A denoising network's call as the options have it; the network itself without any.

    Raises:
        OptionRefused: torch has no such compile_backend.
    """
    call = compiled_call(network, options)
    if options.channels_last:
        call = LaidOut(call)
    if options.cuda_graphs:
        call = Captured(call)
    if options.buckets_rows:
        call = Bucketed(call, options.row_buckets)
    return call


def compiled_call(network: Callable[..., Any], options: RuntimeOptions) -> Call:
    """A network's call, compiled if the options have it so, with the rows that it is given.

    Raises:
        OptionRefused: torch has no such compile_backend.
    """
    return Compiled(network, options.compile_backend) if options.compile else network


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
    """Gives images [rows, C, H, W] to a network whose weights are laid out as NHWC likewise."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        return self._call(**_changed(arguments, channels_last))


class Compiled:
    """A network through torch.compile, once for each size of its rows, whatever their number.

    Args:
        network: a module, or a method of one.
        backend: of torch.compile.

    Raises:
        OptionRefused: torch has no such backend.
    """

    def __init__(self, network: Callable[..., Any], backend: str) -> None:
        try:
            self._call: Call = torch.compile(  # type: ignore[call-overload]  # lists not all
                network,
                backend=backend,
                options=COMPILING if backend == "inductor" else None,
                recompile_limit=MOST_SHAPES,
                isolate_recompiles=True,
            )
        except InvalidBackend as error:
            known = ", ".join(torch.compiler.list_backends())
            raise OptionRefused(f"runtime.compile_backend: {backend} is none of {known}") from error
        self._met: set[Hashable] = set()

    def __call__(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        size = _size(arguments)
        if size not in self._met and _tensors(arguments)[0].is_cuda:
            missing = max(0, USUAL_ROWS - _rows(arguments))
            self._run(_changed(arguments, lambda tensor: _padded(tensor, missing)))
            self._met.add(size)
        return self._run(arguments)

    def _run(self, arguments: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        for tensor in _tensors(arguments):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return self._call(**arguments)


@dataclass(frozen=True)
class Capture:
    """A CUDA graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    outputs: tuple[torch.Tensor, ...]


class Captured:
    """Captures a call as one CUDA graph for each shape of its arguments, and replays it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._captures: dict[Hashable, Capture] = {}
        self._memory: Any = None
        """Of all graphs: none runs beside another."""

    def __call__(self, **arguments: Any) -> tuple[torch.Tensor, ...]:
        shapes = tuple((tensor.shape, tensor.stride()) for tensor in _tensors(arguments))
        capture = self._captures.get(shapes)
        if capture is None:
            capture = self._captures[shapes] = self._capture(arguments)
        for kept, given in zip(capture.inputs, _tensors(arguments), strict=True):
            kept.copy_(given)
        capture.graph.replay()
        return tuple(part.clone() for part in capture.outputs)  # the next replay writes over them

    def _capture(self, arguments: dict[str, Any]) -> Capture:
        kept = _changed(arguments, torch.clone)
        # A stream of its own for both: a capture must not wait for work that came before it.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._call(**kept)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads go on to read requests on the device meanwhile.
        with torch.cuda.graph(
            graph, pool=self._memory, stream=stream, capture_error_mode="thread_local"
        ):
            outputs = tuple(self._call(**kept))
        self._memory = graph.pool()
        return Capture(graph, _tensors(kept), outputs)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """An image [rows, C, H, W] laid out as NHWC; any other tensor as it is."""
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _tensors(arguments: Mapping[str, Any]) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]


def _rows(arguments: Mapping[str, Any]) -> int:
    return len(_tensors(arguments)[0])


def _size(arguments: Mapping[str, Any]) -> Hashable:
    """Of one row, in all tensors."""
    return tuple(tensor.shape[1:] for tensor in _tensors(arguments))


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
