"""Tiny Kandinsky 2.1 checkpoints with seeded random weights, in the published layout."""

import string
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    KandinskyInpaintPipeline,
    KandinskyPipeline,
    KandinskyPriorPipeline,
    SchedulerMixin,
    UNet2DConditionModel,
)
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from transformers import XLMRobertaTokenizer

from tests import tiny

STATES_WIDTH = 48
POSITIONS = 77


def build(
    folder: Path,
    seed: int = 0,
    scheduler: SchedulerMixin | None = None,
    tokenizer: XLMRobertaTokenizer | None = None,
) -> Path:
    """Writes `folder`/prior, `folder`/decoder and `folder`/decoder-inpaint.

    The decoders have a `ddpm_scheduler` beside.

    Args:
        folder: where to.
        seed: of the weights.
        scheduler: the one that the decoder names; None for the published DDIM.
        tokenizer: of multilingual CLIP; None for `piece_tokenizer`'s.
    """
    torch.manual_seed(seed)
    prior = KandinskyPriorPipeline(**tiny.prior_pipeline().components)
    prior.save_pretrained(folder / "prior")
    decoder = decoder_pipeline(tokenizer or piece_tokenizer())
    if scheduler is not None:
        decoder.register_modules(scheduler=scheduler)
    decoder.save_pretrained(folder / "decoder")
    inpaint = KandinskyInpaintPipeline(**{**decoder.components, "unet": unet(in_channels=9)})
    inpaint.save_pretrained(folder / "decoder-inpaint")
    for name in ("decoder", "decoder-inpaint"):
        ddpm_scheduler().save_pretrained(folder / name / "ddpm_scheduler")
    index = folder / "prior" / "model_index.json"
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    return folder


def decoder_pipeline(tokenizer: XLMRobertaTokenizer) -> KandinskyPipeline:
    """Multilingual CLIP, UNet, MoVQ of factor 8 and the published DDIM scheduler."""
    return KandinskyPipeline(
        text_encoder=MultilingualCLIP(
            MCLIPConfig(
                transformerDimSize=STATES_WIDTH,
                imageDimSize=tiny.WIDTH,
                vocab_size=len(tokenizer),
                hidden_size=STATES_WIDTH,
                intermediate_size=37,
                num_attention_heads=4,
                num_hidden_layers=1,
                max_position_embeddings=POSITIONS + 2,
                pad_token_id=tokenizer.pad_token_id,
                initializer_range=0.5,
            )
        ),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        movq=tiny.decoder_pipeline().movq,
    )


def unet(in_channels: int = 4) -> UNet2DConditionModel:
    """Of two blocks, following text states and both embeddings."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=8,
        addition_embed_type="text_image",
        addition_embed_type_num_heads=2,
        encoder_hid_dim=STATES_WIDTH,
        encoder_hid_dim_type="text_image_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=tiny.WIDTH,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )


def ddpm_scheduler() -> DDPMScheduler:
    """As in the published folder `ddpm_scheduler`."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        variance_type="learned_range",
        clip_sample_range=2.0,
        thresholding=True,
        sample_max_value=None,
    )


def piece_tokenizer() -> XLMRobertaTokenizer:
    """An XLM-R tokenizer whose pieces are letters, some at the beginning of a word."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
    vocab = [(word, -float(index)) for index, word in enumerate([*words, "▁red", "▁c", "<mask>"])]
    return XLMRobertaTokenizer(vocab=vocab, model_max_length=512)


CATALOG_ENTRY = """\
name: {name}
description: A tiny random Kandinsky 2.1.
family: kandinsky-2-1
dtype: {dtype}
device: cpu
stages:
  encoders: {{weights: {{folder: prior}}, decoder_text: {{folder: decoder}}}}
  prior: {{weights: {{folder: prior}}}}
  decoder: {{weights: {{folder: decoder}}, inpaint: {{folder: decoder-inpaint}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
samplers: {{prior: {{steps: 3}}, decoder: {{steps: 4}}}}
limits: {{max_prompt_characters: 100}}
"""


def write_catalog(folder: Path, name: str = "tiny", dtype: str = "float32") -> Path:
    """Writes the catalog entry of the checkpoint in `folder`; returns the catalog folder."""
    return tiny.write_catalog(folder, name, dtype, CATALOG_ENTRY)
