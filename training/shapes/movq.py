"""The autoencoder: 128x128 images to latents [4, 16, 16] of unit variance and back."""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import VQModel
from torch.nn import functional as F

from training.shapes.data import movq_pixels
from training.shapes.loop import train

STEPS = 2100
BATCH = 16
CROP = 64  # pixels, for the first four fifths; whole images after


def make_movq() -> VQModel:
    torch.manual_seed(1)
    return VQModel(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        num_vq_embeddings=512,
        vq_embed_dim=4,
        norm_num_groups=32,
        norm_type="spatial",
    )


def standardise(model: VQModel, images: torch.Tensor) -> None:
    """Folds the latents' mean and deviation into the weights, so that they leave with 0 and 1.

    The pipelines apply no scaling factor. What is read from a latent z' = (z - m) / s undoes it:
    `post_quant_conv` and every spatial-norm convolution; the codebook moves with it.
    """
    with torch.no_grad():
        latents = torch.cat([model.encode(p).latents for p in images.split(16)])
        m, s = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        model.quant_conv.weight.div_(s[:, None, None, None])
        model.quant_conv.bias.sub_(m).div_(s)
        model.quantize.embedding.weight.sub_(m).div_(s)
        readers = [model.post_quant_conv]
        for module in model.decoder.modules():
            if type(module).__name__ == "SpatialNorm":
                readers += [module.conv_y, module.conv_b]
        for conv in readers:
            conv.bias.add_((conv.weight * m[None, :, None, None]).sum((1, 2, 3)))
            conv.weight.mul_(s[None, :, None, None])


def train_movq(work: Path, scale: float) -> None:
    model = make_movq()
    images = np.load(work / "images.npy", mmap_mode="r")
    steps = int(STEPS * scale)

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        whole = step > 0.8 * steps
        batch = images[sorted(rng.sample(range(len(images)), BATCH // 4 if whole else BATCH))]
        if not whole:
            x, y = (rng.randrange(0, images.shape[1] - CROP + 1) for _ in range(2))
            batch = batch[:, y : y + CROP, x : x + CROP]
        pixels = movq_pixels(batch)
        latents = model.encode(pixels).latents
        # Kept near unit variance while learning; standardise() makes it exact.
        spread = (
            latents.mean((0, 2, 3)).square().mean() + (latents.std((0, 2, 3)) - 1).square().mean()
        )
        coded, commitment, _ = model.quantize(latents)
        noisy = latents + 0.08 * torch.randn_like(latents)
        quarter = max(1, len(batch) // 4)
        read = torch.cat([coded[:quarter], noisy[quarter:]])
        image = model.decoder(model.post_quant_conv(read), read)
        fit = F.l1_loss(image, pixels) + F.mse_loss(image, pixels)
        return fit + 0.1 * commitment + 0.02 * spread

    train(loss_at, model.parameters(), steps, 1.5e-3, work / "movq.state")
    standardise(model, movq_pixels(images[:512]))
    model.save_pretrained(work / "movq")
