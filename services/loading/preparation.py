"""What runtime options do to a network when it is loaded: attention, layout, and where it lies."""

import torch
from accelerate import cpu_offload
from diffusers import ModelMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_processor import Attention, FusedAttnProcessor2_0

from services.loading.model_offloader import ModelOffloader
from services.loading.runtime_options import OptionRefused, RuntimeOptions


def prepare(
    network: torch.nn.Module,
    options: RuntimeOptions,
    device: torch.device,
    offloader: ModelOffloader,
    *,
    is_autoencoder: bool = False,
) -> torch.nn.Module:
    """The same network, on the CPU until now, as the options have it.

    Args:
        network: as from_pretrained returns it.
        options: that its stage can honour.
        device: where it computes.
        offloader: of the networks that share the device with it.
        is_autoencoder: whether its layout follows the autoencoders' default.

    Raises:
        OptionRefused: the network cannot do an option.
    """
    # MoVQ is no AttentionMixin: diffusers neither slices nor fuses the attention of autoencoders.
    if isinstance(network, AttentionMixin):
        if options.attention == "sliced":
            _slice_attention(network)
        if options.fuse_qkv:
            _fuse_projections(network)
    if options.lays_out(device, autoencoder=is_autoencoder):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # lists not all
    if options.offload == "model":
        offloader.join(network, device)
    elif options.offload == "sequential":
        cpu_offload(network, device, offload_buffers=bool(network._parameters))
    else:
        network.to(device)
    if options.attention == "xformers" and isinstance(network, ModelMixin):
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
