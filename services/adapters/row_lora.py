"""LoRAs of a batch's rows: each row's own, added to what the network's modules give.

The network's own weights stay as they are, so that rows with different LoRAs, several or none, pass
one forward of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush

import torch
from torch.nn import functional as F

from services.adapters.lora_file import LowRank


@dataclass(frozen=True)
class Layer:
    """The differences that LoRAs make to one module, by place; place 0 makes none."""

    down: torch.Tensor
    """[places, r, in] or [places, r, in, kh, kw]; r is the largest rank."""
    up: torch.Tensor
    """[places, out, r]."""
    places: torch.Tensor
    """int64 [slots]: the place of each LoRA of the network."""

    def delta(
        self,
        module: torch.nn.Module,
        inputs: torch.Tensor,
        slots: torch.Tensor,
        scales: torch.Tensor,
    ) -> torch.Tensor:
        """What is added to the module's output.

        Args:
            module: a Linear or a Conv2d.
            inputs: its, [rows, ...].
            slots: int64 [rows, K]: the LoRAs of each row.
            scales: [rows, K].
        """
        places = self.places[slots]
        rows, count = places.shape
        rank = self.down.shape[1]
        up = self.up[places].transpose(1, 2).flatten(2)  # [rows, out, K * r]
        weights = scales.to(inputs.dtype).repeat_interleave(rank, 1)  # [rows, K * r]
        down = self.down[places].flatten(1, 2)  # [rows, K * r, in, ...]
        if isinstance(module, torch.nn.Conv2d):
            height, width = inputs.shape[2:]
            grouped = F.conv2d(
                inputs.reshape(1, -1, height, width),
                down.flatten(0, 1),
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=rows,
            )
            inner = grouped.view(rows, count * rank, -1) * weights[:, :, None]
            return torch.bmm(up, inner).view(rows, -1, *grouped.shape[2:])
        inner = torch.bmm(inputs.reshape(rows, -1, inputs.shape[-1]), down.transpose(1, 2))
        found = torch.bmm(inner * weights[:, None], up.transpose(1, 2))
        return found.view(*inputs.shape[:-1], -1)


@dataclass(frozen=True)
class Active:
    """What the rows of the forward under way have."""

    layers: Mapping[str, Layer]
    slots: torch.Tensor
    scales: torch.Tensor


class RowLora:
    """The LoRAs that a network has, and those of the rows that pass it.

    Args:
        network: whose modules they change. One thread at a time calls it.
        like: has the device and the dtype of its forwards.
    """

    def __init__(self, network: torch.nn.Module, like: torch.Tensor) -> None:
        self._modules = {
            path: module
            for path, module in network.named_modules()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        }
        self._like = like
        self._layers: Mapping[str, Layer] = {}
        self._slots = 16
        self._free = list(range(1, self._slots))  # a heap; slot 0 has no LoRA
        self._active: Active | None = None

    def attach(self) -> None:
        """Have the network's modules ask for their rows' differences, before its first forward: no
        module may change while another thread passes it."""
        for path, module in self._modules.items():
            module.register_forward_hook(partial(self._add_delta, path))

    def add(self, weights: Mapping[str, LowRank]) -> int:
        """Take a LoRA in; returns its slot.

        Forwards under way go on with what they have.
        """
        if not self._free:
            self._grow()
        slot = heappop(self._free)
        added = {path: _with(self._layer(path), lora, slot) for path, lora in weights.items()}
        self._layers = {**self._layers, **added}
        return slot

    def remove(self, slot: int) -> None:
        """Let a LoRA go that no row has any more; slot 0 stays."""
        if slot:
            left = {path: _without(layer, slot) for path, layer in self._layers.items()}
            self._layers = {path: layer for path, layer in left.items() if len(layer.down) > 1}
            heappush(self._free, slot)

    @contextmanager
    def of_rows(self, slots: torch.Tensor, scales: torch.Tensor) -> Iterator[None]:
        """The LoRAs of the rows that pass in the block; arguments as of `Layer.delta`."""
        self._active = Active(self._layers, slots, scales)
        try:
            yield
        finally:
            self._active = None

    def _grow(self) -> None:
        """Make room for as many LoRAs again."""
        before, self._slots = self._slots, 2 * self._slots
        self._free = list(range(before, self._slots))
        self._layers = {
            path: replace(layer, places=_padded(layer.places, 0, self._slots))
            for path, layer in self._layers.items()
        }

    def _layer(self, path: str) -> Layer:
        """Of a module; without any LoRA where it has none yet."""
        if path in self._layers:
            return self._layers[path]
        weight: torch.Tensor = self._modules[path].weight
        return Layer(
            self._like.new_zeros(1, 1, *weight.shape[1:]),
            self._like.new_zeros(1, weight.shape[0], 1),
            torch.zeros(self._slots, dtype=torch.int64, device=self._like.device),
        )

    def _add_delta(
        self,
        path: str,
        module: torch.nn.Module,
        args: tuple[torch.Tensor, ...],
        output: torch.Tensor,
    ) -> torch.Tensor | None:
        active = self._active
        if active is None or path not in active.layers:
            return None
        return output + active.layers[path].delta(module, args[0], active.slots, active.scales)


def _with(layer: Layer, added: LowRank, slot: int) -> Layer:
    """A layer with one LoRA more."""
    rank = max(layer.down.shape[1], len(added.down))
    down, up = added.down.to(layer.down)[None], added.up.to(layer.up)[None]
    places = layer.places.clone()
    places[slot] = len(layer.down)
    return Layer(
        torch.cat([_padded(layer.down, 1, rank), _padded(down, 1, rank)]),
        torch.cat([_padded(layer.up, 2, rank), _padded(up, 2, rank)]),
        places,
    )


def _without(layer: Layer, slot: int) -> Layer:
    """A layer with one LoRA less, which may have left it alone."""
    place = int(layer.places[slot])
    if not place:
        return layer
    kept = [i for i in range(len(layer.down)) if i != place]
    places = layer.places.clone()
    places[slot] = 0
    places -= (places > place).to(places.dtype)
    return Layer(layer.down[kept], layer.up[kept], places)


def _padded(tensor: torch.Tensor, axis: int, length: int) -> torch.Tensor:
    """With zeros after its values along an axis."""
    shape = list(tensor.shape)
    shape[axis] = length - shape[axis]
    return torch.cat([tensor, tensor.new_zeros(shape)], axis) if shape[axis] else tensor
