"""What the trained Stable Diffusion inpainting takes over from the Kandinsky model is the same."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModelWithProjection

from training.shapes import inpaint, sd_inpaint
from training.shapes.clip import make_encoders, make_tokenizer
from training.shapes.kl_autoencoder import make_autoencoder
from training.shapes.movq import make_movq
from training.shapes.unet import make_unet


@torch.no_grad()
def test_the_autoencoder_encodes_as_movq_does() -> None:
    movq = make_movq().eval()
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    posterior = make_autoencoder(movq).eval().encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, movq.encode(pixels).latents, atol=1e-5, rtol=1e-4)
    assert posterior.std.max() < 0.05


@torch.no_grad()
def test_the_longer_text_encoder_gives_the_same_states(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    make_encoders(tokenizer)[0].save_pretrained(tmp_path / "text_encoder")
    short = CLIPTextModelWithProjection.from_pretrained(tmp_path / "text_encoder").eval()
    longer_tokenizer, longer = sd_inpaint.make_text_encoder(tmp_path)
    words = "a big red star on a blue background"
    expected = short(**tokenizer(words, return_tensors="pt")).last_hidden_state
    padded = longer_tokenizer(words, padding="max_length", return_tensors="pt").input_ids
    assert padded.shape == (1, sd_inpaint.POSITIONS)
    actual = longer(input_ids=padded).last_hidden_state[:, : expected.shape[1]]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_the_unet_starts_from_the_trained_residual_blocks(tmp_path: Path) -> None:
    trained = make_unet(9)
    trained.save_pretrained(tmp_path / "inpaint")
    started = sd_inpaint.started(tmp_path)
    for path in ("conv_in", "down_blocks.0.resnets.0.conv1", "mid_block.resnets.1.conv2"):
        torch.testing.assert_close(
            started.get_submodule(path).weight, trained.get_submodule(path).weight
        )
    torch.testing.assert_close(started.conv_out.weight, trained.conv_out.weight[:4])


@pytest.mark.parametrize("side", [16, 128])
def test_holes_of_every_kind_come_at_every_size(side: int) -> None:
    rng = random.Random(0)
    shares = np.array([inpaint.hole(rng, side).mean() for _ in range(400)])
    assert 0.05 < (shares == 1).mean() < 0.2
    assert ((shares > 0) & (shares < 0.3)).mean() > 0.2
    assert ((shares > 0.3) & (shares < 1)).mean() > 0.2
