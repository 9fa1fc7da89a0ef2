"""What runtime options do to a network when it is loaded: attention, layout, and where it lies."""

from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import VQModel
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_processor import Attention, FusedAttnProcessor2_0

from services.runtime import OptionRefused, RuntimeOptions


class Turns:
    """Networks of which one at a time lies on the device; the others wait in the CPU's memory.

    As accelerate's cpu_offload_with_hook, whose chain has a fixed order: an engine's networks
    follow one another in any.
    """

    def __init__(self) -> None:
        self._on_device: torch.nn.Module | None = None

    def join(self, network: torch.nn.Module, device: torch.device) -> None:
        """Puts a network on the CPU; from now on each of its forwards first takes the device."""
        add_hook_to_module(network, _Turn(self, device), append=True)

    def take(self, network: torch.nn.Module, device: torch.device) -> None:
        """Moves a network onto the device, and the one that was there off it."""
        if self._on_device is network:
            return
        if self._on_device is not None:
            self._on_device.to("cpu")
        network.to(device)
        self._on_device = network


class _Turn(ModelHook):
    def __init__(self, turns: Turns, device: torch.device) -> None:
        self._turns = turns
        self._device = device

    def init_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.to("cpu")

    @torch.compiler.disable
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self._turns.take(module, self._device)
        return args, kwargs


def prepare(
    network: torch.nn.Module, options: RuntimeOptions, device: torch.device, turns: Turns
) -> torch.nn.Module:
    """The same network, on the CPU until now, as the options have it.

    Args:
        network: as from_pretrained gives it.
        options: that its stage can honour.
        device: where it computes.
        turns: of the networks that share the device with it.

    Raises:
        OptionRefused: the network cannot do an option.
    """
    # MoVQ is no AttentionMixin: diffusers neither slices nor fuses the attention of autoencoders.
    if isinstance(network, AttentionMixin):
        if options.attention == "sliced":
            _slice_attention(network)
        if options.fuse_qkv:
            _fuse_projections(network)
    if options.lays_out(device, autoencoder=isinstance(network, VQModel)):
        network.to(memory_format=torch.channels_last)
    if options.offload == "model":
        turns.join(network, device)
    elif options.offload == "sequential":
        cpu_offload(network, device, offload_buffers=bool(network._parameters))
    else:
        network.to(device)
    if options.attention == "xformers":
        network.enable_xformers_memory_efficient_attention()
    return network


def _slice_attention(network: AttentionMixin) -> None:
    """As UNet2DConditionModel.set_attention_slice("auto"), which PriorTransformer lacks."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.set_attention_slice(max(1, module.sliceable_head_dim // 2))


def _fuse_projections(network: AttentionMixin) -> None:
    """As UNet2DConditionModel.fuse_qkv_projections; PriorTransformer's own fuses nothing."""
    if any("Added" in type(used).__name__ for used in network.attn_processors.values()):
        raise OptionRefused(
            f"runtime.fuse_qkv: diffusers cannot fuse this {type(network).__name__}, whose "
            "attention has added key and value projections"
        )
    for module in network.modules():
        if isinstance(module, Attention):
            module.fuse_projections()
    network.set_attn_processor(FusedAttnProcessor2_0())
    network.requires_grad_(False)
