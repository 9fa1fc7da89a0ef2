"""The UNet that follows a depth map beside the image embedding, as Kandinsky 2.2's ControlNet."""

from pathlib import Path

import torch

from training.shapes.data import shape_masks
from training.shapes.loop import train
from training.shapes.prior import image_embeddings, zero_embedding
from training.shapes.unet import embedding_loss, latents, named_rows, widened

STEPS = 1_200
BATCH = 32


def hints(masks: torch.Tensor) -> torch.Tensor:
    """Depth maps [B, 3, 128, 128] from 0 to 1: near shapes before a far ground, which may slope.

    Args:
        masks: uint8 [B, 128, 128].
    """
    rows = len(masks)
    near, far = 0.7 + 0.3 * torch.rand(rows, 1, 1), 0.3 * torch.rand(rows, 1, 1)
    slope = torch.linspace(0, 1, masks.shape[1])[None, :, None]
    ground = torch.where(torch.rand(rows, 1, 1) < 0.3, far * slope, far)
    shape = masks / 255
    return (ground + (near - ground) * shape)[:, None].expand(-1, 3, -1, -1)


def train_depth(work: Path, scale: float) -> None:
    clean, embeddings, zero = latents(work), image_embeddings(work), zero_embedding(work)
    masks = torch.tensor(shape_masks())
    named = named_rows()
    model = widened(work, 8, "image_hint")

    def loss_at(step: int) -> torch.Tensor:
        rows = named[torch.randint(0, len(named), (BATCH,))]
        return embedding_loss(model, clean[rows], embeddings[rows], zero, hint=hints(masks[rows]))

    steps = int(STEPS * scale)
    train(loss_at, model.parameters(), steps, 4e-4, work / "depth.state", average=0.998)
    model.save_pretrained(work / "depth")
