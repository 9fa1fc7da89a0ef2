"""Teaches the autoencoder's decoder to give a region back whatever stands beside it.

Its norms run over the whole image, so that a hole filled with something else would shift the
colours of what was kept. The encoder stays as it is, and with it every latent.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import VQModel
from torch.nn import functional as F

from training.shapes.data import movq_pixels
from training.shapes.inpaint import holes
from training.shapes.loop import train
from training.shapes.unet import latents, named_rows

STEPS = 400
BATCH = 6
CELL = 8  # pixels


def train_locality(work: Path, scale: float) -> None:
    clean = latents(work)
    images = np.load(work / "images.npy", mmap_mode="r")
    pool, cells = named_rows(), holes()
    model = VQModel.from_pretrained(work / "movq").to(torch.get_default_device())
    parameters = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    for frozen in (*model.encoder.parameters(), *model.quant_conv.parameters()):
        frozen.requires_grad_(False)

    def decode(latent: torch.Tensor) -> torch.Tensor:
        return model.decoder(model.post_quant_conv(latent), latent)

    def loss_at(step: int) -> torch.Tensor:
        kept, other = (pool[torch.randint(0, len(pool), (BATCH,))] for _ in range(2))
        hole = cells[torch.randint(0, len(cells), (BATCH,))]
        mixed = torch.where(hole > 0, clean[other], clean[kept])
        drawn = decode(torch.cat([mixed, clean[kept]]))
        pixels = movq_pixels(images[torch.cat([kept, other]).cpu().numpy()]).to(drawn.device)
        whole, another = pixels.chunk(2)
        inside = hole.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
        # The cells at a hole's edge belong to both images; nobody says what they show.
        near = F.max_pool2d(hole, 3, 1, 1) - (1 - F.max_pool2d(1 - hole, 3, 1, 1))
        clear = (1 - near).repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
        together, alone = drawn.chunk(2)
        target = torch.where(inside > 0, another, whole)
        fit = F.l1_loss(alone, whole) + (clear * (together - target).abs()).mean()
        apart = clear * (1 - inside)
        return fit + 2 * (apart * (together - alone.detach()).abs()).mean()

    # Longer, or with more weight on the kept part, images come back worse as a whole.
    train(loss_at, parameters, int(STEPS * scale), 4e-4, work / "locality.state", average=0.98)
    model.save_pretrained(work / "movq")
