"""Tiny Versatile Diffusion checkpoints with seeded random weights, in the published layout."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel
from diffusers.pipelines.deprecated import versatile_diffusion
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
    UNetFlatConditionModel,
)

from tests import tiny

WIDTH = 32
POSITIONS = 77
PATCH = 2
"""Pixels: so an image of 32 has 257 states, as the dual transformers of the reference have it."""
SIDE = 64


def build(folder: Path, seed: int = 0) -> Path:
    """Writes `folder`/versatile-diffusion: one checkpoint of all pipelines."""
    torch.manual_seed(seed)
    with findable():
        pipeline().save_pretrained(folder / "versatile-diffusion")
    index = folder / "versatile-diffusion" / "model_index.json"
    parts = json.loads(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    # The name of the folder that its class was in when Versatile Diffusion was published.
    parts["text_unet"] = ["versatile_diffusion", "UNetFlatConditionModel"]
    index.write_text(json.dumps(parts))
    return folder


@contextlib.contextmanager
def findable() -> Iterator[None]:
    """While it lasts, diffusers finds the classes where its indexes say that they are."""
    diffusers.pipelines.versatile_diffusion = versatile_diffusion
    try:
        yield
    finally:
        del diffusers.pipelines.versatile_diffusion


@contextlib.contextmanager
def mended() -> Iterator[None]:
    """While it lasts, the reference's dual transformers take what its UNets pass on to them."""
    forward = DualTransformer2DModel.forward

    def taking(self, hidden_states, encoder_hidden_states, encoder_attention_mask=None, **others):
        return forward(self, hidden_states, encoder_hidden_states, **others)

    DualTransformer2DModel.forward = taking
    try:
        yield
    finally:
        DualTransformer2DModel.forward = forward


def pipeline() -> versatile_diffusion.VersatileDiffusionPipeline:
    """All parts of the published checkpoint."""
    tokenizer = tiny.letter_tokenizer(POSITIONS)
    return versatile_diffusion.VersatileDiffusionPipeline(
        tokenizer=tokenizer,
        image_feature_extractor=tiny.image_processor(),
        text_encoder=tiny.text_encoder(tokenizer),
        image_encoder=tiny.image_encoder(PATCH),
        image_unet=UNet2DConditionModel(
            sample_size=SIDE // 8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
        ),
        text_unet=UNetFlatConditionModel(
            sample_size=SIDE // 8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlockFlat", "CrossAttnDownBlockFlat"),
            up_block_types=("CrossAttnUpBlockFlat", "UpBlockFlat"),
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
        ),
        vae=AutoencoderKL(
            block_out_channels=(32, 32, 32, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
        ),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            steps_offset=1,
        ),
    )


CATALOG_ENTRY = """\
name: {name}
description: A tiny random Versatile Diffusion.
family: versatile-diffusion
dtype: {dtype}
device: cpu
stages:
  encoders: {{weights: {{folder: versatile-diffusion}}}}
  decoder: {{weights: {{folder: versatile-diffusion}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
samplers: {{decoder: {{steps: 4}}}}
limits: {{max_prompt_characters: 100}}
"""


def write_catalog(folder: Path, name: str = "tiny", dtype: str = "float32") -> Path:
    """Writes the catalog entry of the checkpoint in `folder`; returns the catalog folder."""
    return tiny.write_catalog(folder, name, dtype, CATALOG_ENTRY)
