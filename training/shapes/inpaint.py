"""The 9-channel UNet that fills holes."""

import random
from pathlib import Path

import numpy as np
import torch

from training.shapes.loop import train
from training.shapes.prior import image_embeddings, zero_embedding
from training.shapes.unet import CELLS, embedding_loss, latents, named_rows, widened

STEPS = 3_000
BATCH = 32
MASKS = 8192
KEPT_WEIGHT = 0.25  # of a kept cell's error beside a hole's


def hole(rng: random.Random, side: int = CELLS) -> np.ndarray:
    """bool [side, side], true where the image is generated."""
    cells = np.zeros((side, side), bool)
    kind = rng.random()
    if kind < 0.45:  # a rectangle
        (top, bottom), (left, right) = (sorted(rng.sample(range(side + 1), 2)) for _ in range(2))
        cells[top:bottom, left:right] = True
    elif kind < 0.6:  # an ellipse
        y, x = np.ogrid[:side, :side]
        height, width = (rng.uniform(side / 8, side / 2) for _ in range(2))
        row, column = rng.uniform(0, side), rng.uniform(0, side)
        cells[((y - row) / height) ** 2 + ((x - column) / width) ** 2 < 1] = True
    elif kind < 0.9:  # margins on some sides, as an image that grows has them
        for turns in range(4):
            if rng.random() < 0.5:
                np.rot90(cells, turns)[: rng.randint(1, side // 2)] = True
    else:
        cells[:] = True
    return cells


def kept(cells: np.ndarray) -> np.ndarray:
    """float32 [1, 16, 16], 1 = keep: the hole takes six neighbours of a cell along, as
    `prepare_mask` of diffusers' Kandinsky inpainting does."""
    grown = cells.copy()
    padded = np.pad(cells, 1)
    for row, column in ((-1, 0), (0, -1), (-1, -1), (1, 0), (0, 1), (1, 1)):
        grown |= padded[1 - row : 1 - row + CELLS, 1 - column : 1 - column + CELLS]
    return (~grown).astype(np.float32)[None]


def holes() -> torch.Tensor:
    """float32 [MASKS, 1, 16, 16], 1 in a hole."""
    rng = random.Random(6)
    return torch.tensor(np.stack([hole(rng) for _ in range(MASKS)])).float()[:, None]


def train_inpaint(work: Path, scale: float) -> None:
    clean, embeddings, zero = latents(work), image_embeddings(work), zero_embedding(work)
    rng = random.Random(6)
    masks = torch.tensor(np.stack([kept(hole(rng)) for _ in range(MASKS)]))
    named = named_rows()
    model = widened(work, 9)

    def loss_at(step: int) -> torch.Tensor:
        rows = named[torch.randint(0, len(named), (BATCH,))]
        mask = masks[torch.randint(0, MASKS, (BATCH,))]
        extra = torch.cat([clean[rows] * mask, mask], 1)
        weight = 1 - (1 - KEPT_WEIGHT) * mask
        return embedding_loss(model, clean[rows], embeddings[rows], zero, extra, weight=weight)

    steps = int(STEPS * scale)
    train(loss_at, model.parameters(), steps, 4e-4, work / "inpaint.state", average=0.998)
    model.save_pretrained(work / "inpaint")
