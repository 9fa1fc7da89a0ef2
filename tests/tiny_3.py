"""Tiny Kandinsky 3 checkpoints with seeded random weights, in the published layout."""

import string
from pathlib import Path

import torch
from diffusers import DDPMScheduler, Kandinsky3Pipeline, Kandinsky3UNet
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from tests import tiny

WIDTH = 32
POSITIONS = 128


def build(folder: Path, seed: int = 0, tokenizer: T5Tokenizer | None = None) -> Path:
    """Writes `folder`/kandinsky-3: tokenizer, text encoder, UNet, MoVQ and scheduler.

    Args:
        folder: where to.
        seed: of the weights.
        tokenizer: None for `letter_tokenizer`'s.
    """
    torch.manual_seed(seed)
    tokenizer = tokenizer or letter_tokenizer()
    Kandinsky3Pipeline(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=WIDTH,
                d_kv=8,
                d_ff=37,
                num_layers=1,
                num_heads=4,
            )
        ),
        unet=unet(),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", steps_offset=1),
        movq=tiny.decoder_pipeline().movq,
    ).save_pretrained(folder / "kandinsky-3")
    return folder


def unet() -> Kandinsky3UNet:
    """Of two levels. Its modulation by the time starts at zero, which would hide the timestep."""
    network = Kandinsky3UNet(
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(32, 64),
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
    )
    for name, parameter in network.named_parameters():
        if "context_mlp" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.1)
    return network


def letter_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer of which each letter is a token."""
    words = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
    return T5Tokenizer(vocab=[(word, -1.0) for word in words], extra_ids=0)


CATALOG_ENTRY = """\
name: {name}
description: A tiny random Kandinsky 3.
family: kandinsky-3
dtype: {dtype}
device: cpu
stages:
  encoders: {{weights: {{folder: kandinsky-3}}}}
  decoder: {{weights: {{folder: kandinsky-3}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
samplers: {{decoder: {{steps: 4}}}}
limits: {{max_prompt_characters: 200}}
"""


def write_catalog(folder: Path, name: str = "tiny", dtype: str = "float32") -> Path:
    """Writes the catalog entry of the checkpoint in `folder`; returns the catalog folder."""
    return tiny.write_catalog(folder, name, dtype, CATALOG_ENTRY)
