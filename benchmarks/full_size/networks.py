"""The networks of Kandinsky 2.2 by their published configurations, and what a forward costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler, PriorTransformer, UNet2DConditionModel, VQModel
from torch.utils.flop_counter import FlopCounterMode

SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}

DECODER_BLOCKS: Mapping[str, Any] = {
    "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    "in_channels": 4,
    "out_channels": 8,
    "addition_embed_type": "image",
    "encoder_hid_dim_type": "image_proj",
    "resnet_time_scale_shift": "scale_shift",
}


@dataclass(frozen=True)
class Networks:
    """UNet, MoVQ and prior, on one device."""

    unet: UNet2DConditionModel
    movq: VQModel
    prior: PriorTransformer

    def unet_inputs(self, rows: int, pixels: int) -> dict[str, Any]:
        """Random arguments of a UNet forward for square images of `pixels` a side."""
        width = self.unet.config.encoder_hid_dim
        return {
            "sample": self.latents(rows, pixels),
            "timestep": self._like(self.unet, rows).abs() * 100,
            "encoder_hidden_states": None,
            "added_cond_kwargs": {"image_embeds": self._like(self.unet, rows, width)},
        }

    def prior_inputs(self, rows: int) -> dict[str, Any]:
        """Random arguments of a prior forward."""
        width, tokens = self.prior.config.embedding_dim, self.prior.config.num_embeddings
        return {
            "hidden_states": self._like(self.prior, rows, width),
            "timestep": self._like(self.prior, rows).abs() * 100,
            "proj_embedding": self._like(self.prior, rows, width),
            "encoder_hidden_states": self._like(self.prior, rows, tokens, width),
            "attention_mask": torch.ones(rows, tokens, dtype=torch.bool, device=self.prior.device),
        }

    def latents(self, rows: int, pixels: int) -> torch.Tensor:
        """Random latents [rows, 4, h, w]."""
        side = pixels // 2 ** (len(self.movq.config.block_out_channels) - 1)
        return self._like(self.movq, rows, self.movq.config.latent_channels, side, side)

    def _like(self, network: Any, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=network.device, dtype=network.dtype)


@dataclass(frozen=True)
class Size:
    """A model by its networks' configurations."""

    name: str
    unet: Mapping[str, Any]
    movq: Mapping[str, Any]
    prior: Mapping[str, Any]

    def build(self, device: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Networks:
        """The networks with random weights, the same for the same seed."""
        torch.manual_seed(seed)
        with torch.device(device):
            networks = (
                UNet2DConditionModel(**self.unet),
                VQModel(**self.movq),
                PriorTransformer(**self.prior),
            )
        return Networks(*(one.to(dtype).eval().requires_grad_(False) for one in networks))

    def parameters(self) -> dict[str, int]:
        """Parameters of each network."""
        networks = vars(self.build("meta"))
        return {
            name: sum(one.numel() for one in network.parameters())
            for name, network in networks.items()
        }

    def forward_flops(self, pixels: int) -> dict[str, int]:
        """Floating-point operations of one row through each network, of MoVQ's decoding half."""
        networks = self.build("meta")
        unet, prior = networks.unet_inputs(1, pixels), networks.prior_inputs(1)
        latents = networks.latents(1, pixels)
        return {
            "unet": flops(lambda: networks.unet(**unet)),
            "movq": flops(lambda: networks.movq.decode(latents, force_not_quantize=True)),
            "prior": flops(lambda: networks.prior(**prior)),
        }

    def image_flops(self, pixels: int, steps: int) -> int:
        """Of one guided image: two UNet rows a step, and one decoding."""
        flops = self.forward_flops(pixels)
        return 2 * steps * flops["unet"] + flops["movq"]


def scheduler() -> DDPMScheduler:
    """The published noise scheduler."""
    return DDPMScheduler(**SCHEDULER)


def flops(forward: Callable[[], object]) -> int:
    """Floating-point operations of a forward."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        forward()
    return int(counter.get_total_flops())


FULL = Size(
    "kandinsky-2-2, full size",
    unet={
        **DECODER_BLOCKS,
        "sample_size": 64,
        "attention_head_dim": 64,
        "block_out_channels": (384, 768, 1152, 1536),
        "cross_attention_dim": 768,
        "encoder_hid_dim": 1280,
        "layers_per_block": 3,
    },
    movq={
        "block_out_channels": (128, 256, 256, 512),
        "down_block_types": (*("DownEncoderBlock2D",) * 3, "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 3),
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_type": "spatial",
        "num_vq_embeddings": 16384,
        "vq_embed_dim": 4,
    },
    prior={
        "num_attention_heads": 32,
        "attention_head_dim": 64,
        "num_layers": 20,
        "embedding_dim": 1280,
        "num_embeddings": 77,
        "additional_embeddings": 4,
    },
)
"""As in the hub's kandinsky-2-2-decoder and kandinsky-2-2-prior."""

REDUCED = Size(
    "kandinsky-2-2, REDUCED to a few channels",
    unet={
        **DECODER_BLOCKS,
        "sample_size": 16,
        "attention_head_dim": 16,
        "block_out_channels": (32, 32, 64, 64),
        "cross_attention_dim": 32,
        "encoder_hid_dim": 32,
        "layers_per_block": 1,
    },
    movq={
        "block_out_channels": (32, 32, 64),
        "down_block_types": (*("DownEncoderBlock2D",) * 2, "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 2),
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_type": "spatial",
        "num_vq_embeddings": 64,
        "vq_embed_dim": 4,
    },
    prior={
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "embedding_dim": 32,
        "num_embeddings": 16,
        "additional_embeddings": 4,
    },
)
"""The same kinds of blocks, for a machine without an accelerator."""
