"""The KL autoencoder of Stable Diffusion's classes: MoVQ's encoder, and a decoder learnt for it.

Its latents are MoVQ's, so the UNet that reads them is trained beside it, not after it.
"""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel

from training.shapes.data import movq_pixels
from training.shapes.drawing import SIZE
from training.shapes.loop import train
from training.shapes.unet import CELLS, latents

STEPS, SIZES_STEPS = 2_400, 3_000
BATCH = 16
CROP = 8  # cells, for the first four fifths; whole images after
FACTOR = 8  # pixels a cell
LOG_VARIANCE = -8.0  # of the posterior: 0.02 deviations
SIZES = ((128, 128, 4), (128, 128, 4), (64, 64, 12), (128, 192, 3), (192, 128, 3), (256, 256, 1))
"""Heights and widths in pixels, and images of a batch."""
SPOTS = 10.0  # weight of errors that are few and large
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
    """The decoder alone, from the latents of the training images; then at other sizes too."""
    model = make_autoencoder(VQModel.from_pretrained(work / "movq"))
    at_one_size(model, work, scale)
    at_any_size(model, work, scale)
    model.save_pretrained(work / "kl_autoencoder")


def at_one_size(model: AutoencoderKL, work: Path, scale: float) -> None:
    """Crops first, then whole images."""
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
        return fit(model, read, movq_pixels(shown))

    train(loss_at, decoder(model), steps, 1e-3, work / "kl_autoencoder.state")


def at_any_size(model: AutoencoderKL, work: Path, scale: float) -> None:
    """Its norms run over the whole image: what it learnt at one size is wrong at another."""
    images = np.load(work / "images.npy", mmap_mode="r")

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        height, width, rows = rng.choice(SIZES)
        shown = images[sorted(rng.sample(range(len(images)), rows))]
        around = [(0, max(0, side - SIZE)) for side in (height, width)]
        shown = np.pad(shown, [(0, 0), *around, (0, 0)], mode=rng.choice(("edge", "wrap")))
        y, x = (rng.randrange(0, max(SIZE - side, 0) + 1, FACTOR) for side in (height, width))
        pixels = movq_pixels(shown[:, y : y + height, x : x + width])
        with torch.no_grad():
            read = model.encode(pixels).latent_dist.mean
        return fit(model, read, pixels)

    steps = int(SIZES_STEPS * scale)
    train(loss_at, decoder(model), steps, 6e-4, work / "kl_autoencoder-sizes.state", average=0.98)


def decoder(model: AutoencoderKL) -> list[torch.nn.Parameter]:
    """What is learnt."""
    return [*model.decoder.parameters(), *model.post_quant_conv.parameters()]


def fit(model: AutoencoderKL, read: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """How far what is decoded of latents, with noise, is from the pixels.

    The fourth power is for a spot in a corner, in which the norms would else keep their statistics.
    """
    off = model.decode(read + SPREAD * torch.randn_like(read)).sample - pixels
    return off.abs().mean() + off.square().mean() + SPOTS * off.pow(4).mean()
