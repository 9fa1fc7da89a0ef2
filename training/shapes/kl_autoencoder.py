"""The KL autoencoder of Stable Diffusion's classes: MoVQ's encoder, and a decoder learnt for it.

Its latents are MoVQ's, so the UNet that reads them is trained beside it, not after it.
"""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from torch.nn import functional as F

from training.shapes.data import movq_pixels
from training.shapes.loop import train
from training.shapes.unet import CELLS, latents

STEPS = 2_400
BATCH = 16
CROP = 8  # cells, for the first four fifths; whole images after
FACTOR = 8  # pixels a cell
LOG_VARIANCE = -8.0  # of the posterior: 0.02 deviations
SPREAD = 0.05  # deviations of noise that the decoder learns to overlook


def make_autoencoder(movq: VQModel) -> AutoencoderKL:
    """A KL autoencoder that encodes as a MoVQ does, its decoder started from MoVQ's convolutions.

    MoVQ's spatial norms are plain group norms here; everything else has the same shape.
    """
    torch.manual_seed(4)
    channels = movq.config.block_out_channels
    model = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=movq.config.layers_per_block,
        latent_channels=movq.config.latent_channels,
        sample_size=CELLS * FACTOR,
        scaling_factor=1.0,  # MoVQ's latents have unit variance
    )
    known, own = movq.state_dict(), model.state_dict()
    weights = {
        name: known[name]
        for name in own
        if name in known and known[name].shape == own[name].shape and "quantize" not in name
    }
    half = movq.config.latent_channels  # the posterior's means; after them its log variances
    for name, means in (("encoder.conv_out", half), ("quant_conv", half)):
        for kind in ("weight", "bias"):
            whole = torch.zeros_like(own[f"{name}.{kind}"])
            own_part = known[f"{name}.{kind}"]
            if kind == "weight":
                whole[:means, : own_part.shape[1]] = own_part
            else:
                whole[:means] = own_part
                if name == "quant_conv":
                    whole[means:] = LOG_VARIANCE
            weights[f"{name}.{kind}"] = whole
    model.load_state_dict({**own, **weights})
    return model


def train_kl_autoencoder(work: Path, scale: float) -> None:
    """The decoder alone, from the latents of the training images."""
    model = make_autoencoder(VQModel.from_pretrained(work / "movq"))
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    codes = latents(work)
    images = np.load(work / "images.npy", mmap_mode="r")
    steps = int(STEPS * scale)

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        whole = step > 0.8 * steps
        rows = sorted(rng.sample(range(len(images)), BATCH // 4 if whole else BATCH))
        read, shown = codes[rows], images[rows]
        if not whole:
            x, y = (rng.randrange(CELLS - CROP + 1) for _ in range(2))
            read = read[:, :, y : y + CROP, x : x + CROP]
            top, left, side = (FACTOR * cells for cells in (y, x, CROP))
            shown = shown[:, top : top + side, left : left + side]
        pixels = movq_pixels(shown)
        image = model.decode(read + SPREAD * torch.randn_like(read)).sample
        return F.l1_loss(image, pixels) + F.mse_loss(image, pixels)

    learnt = [p for p in model.parameters() if p.requires_grad]
    train(loss_at, learnt, steps, 1e-3, work / "kl_autoencoder.state")
    model.save_pretrained(work / "kl_autoencoder")
