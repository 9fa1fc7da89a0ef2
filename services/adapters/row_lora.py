"""LoRAs of a batch's rows: each row's own, added to what the network's modules give.

The network's own weights stay as they are, so that rows with different LoRAs, several or none, pass
one forward of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

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
        self._slots = 1  # slot 0 has no LoRA
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
        slot, self._slots = self._slots, self._slots + 1
        layers = dict(self._layers)
        for path in {*layers, *weights}:
            known = layers.get(path) or self._empty(self._modules[path], slot)
            layers[path] = _with(known, weights.get(path))
        self._layers = layers
        return slot

    @contextmanager
    def of_rows(self, slots: torch.Tensor, scales: torch.Tensor) -> Iterator[None]:
        """The LoRAs of the rows that pass in the block; arguments as of `Layer.delta`."""
        self._active = Active(self._layers, slots, scales)
        try:
            yield
        finally:
            self._active = None

    def _empty(self, module: torch.nn.Module, slots: int) -> Layer:
        """A layer that the LoRAs so far leave alone."""
        weight: torch.Tensor = module.weight  # type: ignore[assignment]  # of a Linear or a Conv2d
        return Layer(
            self._like.new_zeros(1, 1, *weight.shape[1:]),
            self._like.new_zeros(1, weight.shape[0], 1),
            torch.zeros(slots, dtype=torch.int64, device=self._like.device),
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


def _with(known: Layer, added: LowRank | None) -> Layer:
    """A layer with one LoRA more, which may leave it alone."""
    if added is None:
        return Layer(known.down, known.up, _and(known.places, 0))
    place, rank = len(known.down), max(known.down.shape[1], len(added.down))
    downs = known.down, added.down.to(known.down)[None]
    ups = known.up, added.up.to(known.up)[None]
    down = torch.cat([_ranked(each, 1, rank) for each in downs])
    up = torch.cat([_ranked(each, 2, rank) for each in ups])
    return Layer(down, up, _and(known.places, place))


def _ranked(tensor: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """Zeros after the ranks that it has."""
    shape = list(tensor.shape)
    shape[axis] = rank - shape[axis]
    return torch.cat([tensor, tensor.new_zeros(shape)], axis) if shape[axis] else tensor


def _and(places: torch.Tensor, place: int) -> torch.Tensor:
    return torch.cat([places, places.new_tensor([place])])
