"""What runtime options do to a network when it is loaded: attention, layout, and where it lies."""

from collections.abc import Sequence

import torch
from accelerate import cpu_offload
from diffusers import ModelMixin
from diffusers.hooks import apply_group_offloading
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
    attentions = [part for part in network.modules() if isinstance(part, Attention)]
    if is_autoencoder:
        _divide(network, options)
    elif options.attention == "sliced":  # which has no place for an autoencoder's spatial norm
        for attention in attentions:
            attention.set_attention_slice(max(1, attention.sliceable_head_dim // 2))
    if options.fuse_qkv:
        _fuse_projections(network, attentions)
    if options.lays_out(device, autoencoder=is_autoencoder):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # lists not all
    if options.offload == "model":
        offloader.join(network, device)
    elif options.offload == "group" and _has_groups(network, is_autoencoder):
        apply_group_offloading(network, device, num_blocks_per_group=1)
    elif options.offload in ("sequential", "group"):
        cpu_offload(network, device, offload_buffers=bool(network._parameters))
    else:
        network.to(device)
    if options.attention == "xformers" and isinstance(network, ModelMixin):
        network.enable_xformers_memory_efficient_attention()
    return network


def _divide(autoencoder: torch.nn.Module, options: RuntimeOptions) -> None:
    for way in options.divisions:
        try:
            getattr(autoencoder, f"enable_{way}")()
        except NotImplementedError as error:
            raise OptionRefused(
                f"runtime.autoencoder_{way}: diffusers has no {way} of "
                f"{type(autoencoder).__name__}; engine.max_batch_latent_area bounds what it "
                "passes at once"
            ) from error


def _fuse_projections(network: torch.nn.Module, attentions: Sequence[Attention]) -> None:
    """As UNet2DConditionModel.fuse_qkv_projections, which other networks lack or do nothing in."""
    if any(attention.added_kv_proj_dim is not None for attention in attentions):
        raise OptionRefused(
            f"runtime.fuse_qkv: diffusers cannot fuse this {type(network).__name__}, whose "
            "attention has added key and value projections"
        )
    for attention in attentions:
        attention.fuse_projections()
        attention.set_processor(FusedAttnProcessor2_0())
    network.requires_grad_(False)


def _has_groups(network: torch.nn.Module, is_autoencoder: bool) -> bool:
    """Whether diffusers moves the network's blocks in the way that the network is called.

    An autoencoder's forward is never called, so that its halves must be blocks of their own.
    """
    if is_autoencoder:
        return getattr(network, "_group_offload_block_modules", None) is not None
    return isinstance(network, ModelMixin)
