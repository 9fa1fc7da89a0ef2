"""Tiny Kandinsky 2.2 checkpoints with seeded random weights, in the published layout."""

import string
from pathlib import Path

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22ControlnetPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH = 32
POSITIONS = 16
IMAGE_SIZE = 32
HINT_SCALE = 3.0
"""With it, unlike hints make images over 100 levels of 255 apart."""


def build(folder: Path, seed: int = 0) -> Path:
    """Writes `folder`/prior, and `folder`/decoder, decoder-inpaint and decoder-control."""
    torch.manual_seed(seed)
    prior_pipeline().save_pretrained(folder / "prior")
    decoder = decoder_pipeline()
    decoder.save_pretrained(folder / "decoder")
    others = {"scheduler": decoder.scheduler, "movq": decoder.movq}
    inpaint = KandinskyV22InpaintPipeline(unet=unet(in_channels=9), **others)
    inpaint.save_pretrained(folder / "decoder-inpaint")
    hinted = unet(in_channels=8, addition_embed_type="image_hint")
    strengthen_hint(hinted)
    control = KandinskyV22ControlnetPipeline(unet=hinted, **others)
    control.save_pretrained(folder / "decoder-control")
    index = folder / "prior" / "model_index.json"
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    return folder


def prior_pipeline() -> KandinskyV22PriorPipeline:
    """Text and image encoder, prior and scheduler of `WIDTH`-wide embeddings."""
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        embedding_dim=WIDTH,
        num_embeddings=POSITIONS,
        num_layers=1,
    )
    torch.nn.init.normal_(prior.clip_std, 1.0, 0.1)  # starts at zero, which would hide everything
    torch.nn.init.normal_(prior.clip_mean)
    tokenizer = letter_tokenizer()
    return KandinskyV22PriorPipeline(
        prior=prior,
        image_encoder=image_encoder(),
        text_encoder=text_encoder(tokenizer),
        tokenizer=tokenizer,
        scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", clip_sample_range=10.0, prediction_type="sample"
        ),
        image_processor=image_processor(),
    )


def decoder_pipeline() -> KandinskyV22Pipeline:
    """UNet, MoVQ of factor 8 and the published DDPM scheduler."""
    return KandinskyV22Pipeline(
        unet=unet(),
        scheduler=DDPMScheduler(beta_start=0.00085, beta_end=0.012, steps_offset=1),
        movq=VQModel(
            block_out_channels=(32, 32, 32, 64),
            down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=4,
            num_vq_embeddings=12,
            vq_embed_dim=4,
            norm_type="spatial",
        ),
    )


def unet(in_channels: int = 4, addition_embed_type: str = "image") -> UNet2DConditionModel:
    """Of two blocks, with embeddings `WIDTH` wide."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=8,
        addition_embed_type=addition_embed_type,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )


def strengthen_hint(network: UNet2DConditionModel) -> None:
    """Scales the convolutions that read the hint.

    As initialized, each keeps a third of what it is given: after eight of them one hint is as
    good as another, and a test could not see that it is dropped.
    """
    with torch.no_grad():
        for layer in network.add_embedding.input_hint_block:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.mul_(HINT_SCALE)


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """For as many tokens as the tokenizer gives."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=37,
            projection_dim=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def image_encoder(patch: int = 8) -> CLIPVisionModelWithProjection:
    """Of images of `IMAGE_SIZE`, in patches of so many pixels."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=37,
            projection_dim=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=patch,
        )
    )


def image_processor() -> CLIPImageProcessor:
    """To `IMAGE_SIZE`."""
    return CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    )


def letter_tokenizer(positions: int = POSITIONS) -> CLIPTokenizer:
    """A CLIP tokenizer without merges: a letter is a token."""
    letters = string.ascii_lowercase
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{a}</w>" for a in letters)]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=positions)


CATALOG_ENTRY = """\
name: {name}
description: A tiny random Kandinsky 2.2.
family: kandinsky-2-2
dtype: {dtype}
device: cpu
stages:
  encoders: {{weights: {{folder: prior}}}}
  prior: {{weights: {{folder: prior}}}}
  decoder: {{weights: {{folder: decoder}}, inpaint: {{folder: decoder-inpaint}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
samplers: {{prior: {{steps: 3}}, decoder: {{steps: 4}}}}
limits: {{max_prompt_characters: 100}}
"""

CONTROL_ENTRY = """\
name: {name}-control
description: The same with a UNet that follows a hint.
family: kandinsky-2-2
dtype: {dtype}
device: cpu
stages:
  encoders: {{model: {name}}}
  prior: {{model: {name}}}
  decoder: {{weights: {{folder: decoder-control}}}}
control: true
size: {{height: 64, width: 64, min: 64, max: 128}}
samplers: {{prior: {{steps: 3}}, decoder: {{steps: 4}}}}
limits: {{max_prompt_characters: 100}}
"""


def write_catalog(
    folder: Path, name: str = "tiny", dtype: str = "float32", entry: str = CATALOG_ENTRY
) -> Path:
    """Writes the catalog entry of the checkpoint in `folder`; returns the catalog folder."""
    (folder / f"{name}.yaml").write_text(entry.format(name=name, dtype=dtype))
    if (folder / "decoder-control").exists():
        control = CONTROL_ENTRY.format(name=name, dtype=dtype)
        (folder / f"{name}-control.yaml").write_text(control)
    return folder
