"""Tiny Karlo checkpoints with seeded random weights, in the published layout."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated import unclip

from tests import tiny

WIDTH = 32
POSITIONS = 77
SMALL, LARGE = 16, 64
"""Sides of the decoder's image and of the final one."""


def build(folder: Path, seed: int = 0) -> Path:
    """Writes `folder`/karlo and `folder`/karlo-image-variations."""
    torch.manual_seed(seed)
    text = text_pipeline()
    with findable():
        text.save_pretrained(folder / "karlo")
        variation_pipeline(text).save_pretrained(folder / "karlo-image-variations")
    index = folder / "karlo-image-variations" / "model_index.json"
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    for name in ("karlo", "karlo-image-variations"):
        as_published(folder / name / "model_index.json")
    return folder


def as_published(index: Path) -> None:
    """The projection by the name of the folder that its class was in when Karlo was published."""
    parts = json.loads(index.read_text())
    parts["text_proj"] = ["unclip", "UnCLIPTextProjModel"]
    index.write_text(json.dumps(parts))


@contextlib.contextmanager
def findable() -> Iterator[None]:
    """While it lasts, diffusers finds the classes of unCLIP where its indexes say that they are."""
    diffusers.pipelines.unclip = unclip
    try:
        yield
    finally:
        del diffusers.pipelines.unclip


def text_pipeline() -> unclip.UnCLIPPipeline:
    """All parts but those that read images."""
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        embedding_dim=WIDTH,
        num_embeddings=POSITIONS,
        num_layers=1,
    )
    torch.nn.init.normal_(prior.clip_std, 1.0, 0.1)  # starts at zero, which would hide everything
    torch.nn.init.normal_(prior.clip_mean)
    tokenizer = tiny.letter_tokenizer(POSITIONS)
    projection = unclip.text_proj.UnCLIPTextProjModel(
        clip_embeddings_dim=WIDTH, time_embed_dim=128, cross_attention_dim=WIDTH
    )
    torch.nn.init.normal_(projection.learned_classifier_free_guidance_embeddings)
    return unclip.UnCLIPPipeline(
        prior=prior,
        decoder=decoder(),
        text_encoder=tiny.text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_proj=projection,
        super_res_first=upscaler(),
        super_res_last=upscaler(),
        prior_scheduler=scheduler("fixed_small_log", "sample", clip_sample_range=5.0),
        decoder_scheduler=scheduler("learned_range", "epsilon"),
        super_res_scheduler=scheduler("fixed_small_log", "epsilon"),
    )


def variation_pipeline(text: unclip.UnCLIPPipeline) -> unclip.UnCLIPImageVariationPipeline:
    """The same with an image encoder in the prior's place."""
    shared = ("decoder", "text_encoder", "tokenizer", "text_proj", "super_res_first")
    others = ("super_res_last", "decoder_scheduler", "super_res_scheduler")
    return unclip.UnCLIPImageVariationPipeline(
        feature_extractor=tiny.image_processor(),
        image_encoder=tiny.image_encoder(),
        **{name: getattr(text, name) for name in (*shared, *others)},
    )


def decoder() -> UNet2DConditionModel:
    """Of small images: noise and variance."""
    return UNet2DConditionModel(
        sample_size=SMALL,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )


def upscaler() -> UNet2DModel:
    """Sees the noise beside the upscaled image."""
    return UNet2DModel(
        sample_size=LARGE,
        in_channels=6,
        out_channels=3,
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64),
        add_attention=False,
        resnet_time_scale_shift="scale_shift",
    )


def scheduler(variance: str, prediction: str, **options: float) -> UnCLIPScheduler:
    """Of a thousand noise levels."""
    return UnCLIPScheduler(variance_type=variance, prediction_type=prediction, **options)


CATALOG_ENTRY = """\
name: {name}
description: A tiny random Karlo.
family: karlo
dtype: {dtype}
device: cpu
stages:
  encoders:
    weights: {{folder: karlo}}
    image: {{folder: karlo-image-variations}}
  prior: {{weights: {{folder: karlo}}}}
  decoder: {{weights: {{folder: karlo}}}}
size: {{height: 64, width: 64, min: 32, max: 128}}
samplers: {{prior: {{steps: 3}}, decoder: {{steps: 4}}, super_resolution: {{steps: 3}}}}
limits: {{max_prompt_characters: 100}}
"""


def write_catalog(folder: Path, name: str = "tiny", dtype: str = "float32") -> Path:
    """Writes the catalog entry of the checkpoint in `folder`; returns the catalog folder."""
    return tiny.write_catalog(folder, name, dtype, CATALOG_ENTRY)
