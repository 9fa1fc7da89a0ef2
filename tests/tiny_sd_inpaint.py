"""Tiny Stable Diffusion inpainting checkpoints with random weights, as they are published."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from tests import tiny

WIDTH = 32
POSITIONS = 77
IMAGE_SIZE = 32


def build(
    folder: Path, seed: int = 0, channels: int = 9, asymmetric: bool = False, **unet_options: Any
) -> Path:
    """Writes `folder`/sd-inpaint: tokenizer, text encoder, UNet, VAE, scheduler, safety checker.

    Args:
        folder: where to.
        seed: of the weights.
        channels: of the UNet's input, 4 or 9.
        asymmetric: whether the VAE's decoder sees the image that is inpainted.
        unet_options: of the UNet's configuration.
    """
    torch.manual_seed(seed)
    tokenizer = letter_tokenizer()
    StableDiffusionInpaintPipeline(
        vae=asymmetric_vae() if asymmetric else vae(),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=37,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=POSITIONS,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=unet(channels, **unet_options),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=safety_checker(),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": IMAGE_SIZE},
            crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        ),
    ).save_pretrained(folder / "sd-inpaint")
    index = folder / "sd-inpaint" / "model_index.json"
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    return folder


def unet(channels: int = 9, **options: Any) -> UNet2DConditionModel:
    """Of two levels, each as those of Stable Diffusion attend or do not."""
    network = UNet2DConditionModel(
        **{
            "sample_size": 8,
            "in_channels": channels,
            "out_channels": 4,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "cross_attention_dim": WIDTH,
            "attention_head_dim": 4,
            "norm_num_groups": 8,
            **options,
        }
    )
    if network.config.time_cond_proj_dim is not None:  # as initialized it would hide the scale
        torch.nn.init.normal_(network.time_embedding.cond_proj.weight)
    return network


def vae() -> AutoencoderKL:
    """Of factor 8. Its latents vary, so that a draw left out would show."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 16, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
    )


def asymmetric_vae() -> AsymmetricAutoencoderKL:
    """Of factor 8; what it makes of the image doubles its channels from level to level."""
    channels = (16, 32, 64, 64)
    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=channels,
        latent_channels=4,
        norm_num_groups=8,
    )


def safety_checker() -> StableDiffusionSafetyChecker:
    """Random; it flags nothing before its thresholds are set."""
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(
            projection_dim=WIDTH,
            vision_config={
                "hidden_size": WIDTH,
                "intermediate_size": 37,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "image_size": IMAGE_SIZE,
                "patch_size": 8,
                "projection_dim": WIDTH,
            },
        )
    )
    torch.nn.init.normal_(checker.concept_embeds)
    torch.nn.init.normal_(checker.special_care_embeds)
    return checker


def letter_tokenizer() -> CLIPTokenizer:
    """As `tests.tiny.letter_tokenizer`, with the published number of positions."""
    tokenizer = tiny.letter_tokenizer()
    tokenizer.model_max_length = POSITIONS
    return tokenizer


def set_scheduler(folder: Path, **changes: object) -> None:
    """Changes the configuration of the checkpoint's scheduler."""
    file = folder / "sd-inpaint" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


CATALOG_ENTRY = """\
name: {name}
description: A tiny random Stable Diffusion inpainting.
family: stable-diffusion-inpainting
dtype: {dtype}
device: cpu
stages:
  encoders: {{weights: {{folder: sd-inpaint}}}}
  decoder: {{weights: {{folder: sd-inpaint}}, safety_checker: {{folder: sd-inpaint}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
samplers: {{decoder: {{steps: 4}}}}
limits: {{max_prompt_characters: 200}}
"""


def declare_adapters(folder: Path, image_encoder: str | None = None) -> None:
    """Has the catalog entry name `folder`/adapters, and the folder of an image encoder if any."""
    entry = folder / "tiny.yaml"
    declared = {**yaml.safe_load(entry.read_text()), "adapters": "adapters"}
    if image_encoder is not None:
        declared["stages"]["encoders"]["image_encoder"] = {"folder": image_encoder}
    entry.write_text(yaml.safe_dump(declared))


def write_catalog(folder: Path, name: str = "tiny", dtype: str = "float32") -> Path:
    """Writes the catalog entry of the checkpoint in `folder`; returns the catalog folder."""
    return tiny.write_catalog(folder, name, dtype, CATALOG_ENTRY)
