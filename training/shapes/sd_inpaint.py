"""A UNet of Stable Diffusion's inpainting classes: it reads a prompt's states, and fills holes.

Nine input channels: noisy latents, the mask (1 = generate), the latents of the image whose hole is
gray. No prior stands before it.
"""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, VQModel
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from training.shapes.clip import WIDTH, tokens
from training.shapes.data import movq_pixels, some_caption, training_scenes
from training.shapes.drawing import SIZE
from training.shapes.inpaint import KEPT_WEIGHT, hole
from training.shapes.loop import save, train
from training.shapes.prior import DROPOUT
from training.shapes.unet import CELLS, latents, named_rows, noise_loss

STEPS = 7_000
BATCH = 32
HOLES = 24_576
"""Images with a hole that are encoded once and learnt from again and again."""


def make_scheduler() -> DDIMScheduler:
    """As Stable Diffusion publishes it, with linear betas: so small an image keeps less noise."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def make_unet() -> UNet2DConditionModel:
    """An untrained one."""
    torch.manual_seed(5)
    return UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=9,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(64, 64, 96),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,  # as in Stable Diffusion 1, the number of heads
        resnet_time_scale_shift="scale_shift",
    )


def started(work: Path) -> UNet2DConditionModel:
    """One with the residual blocks of the trained 9-channel UNet of Kandinsky's classes."""
    model = make_unet()
    own = model.state_dict()
    trained = UNet2DConditionModel.from_pretrained(work / "inpaint").state_dict()
    same = {
        name: weights
        for name, weights in trained.items()
        if name in own and own[name].shape == weights.shape
    }
    out = {name: trained[name][:4] for name in ("conv_out.weight", "conv_out.bias")}
    model.load_state_dict({**own, **same, **out})
    return model


@torch.no_grad()
def masked(work: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images with holes, kept once made.

    Returns:
        rows [HOLES] of the training images; masks float32 [HOLES, 1, 16, 16], 1 in the hole; and
        latents [HOLES, 4, 16, 16] of the images with the hole in gray.
    """
    kept = work / "masked.pt"
    if kept.exists():
        return tuple(torch.load(kept, weights_only=True))
    movq = VQModel.from_pretrained(work / "movq").eval()
    images = np.load(work / "images.npy", mmap_mode="r")
    rng, named = random.Random(7), named_rows().tolist()
    rows = [rng.choice(named) for _ in range(HOLES)]
    masks, codes = [], []
    for at in range(0, HOLES, 64):
        some = rows[at : at + 64]
        holes = torch.tensor(np.stack([hole(rng, SIZE) for _ in some])).float()[:, None]
        codes.append(movq.encode(movq_pixels(images[some]) * (holes < 0.5)).latents)
        masks.append(torch.nn.functional.interpolate(holes, size=(CELLS, CELLS)))
    made = torch.tensor(rows), torch.cat(masks), torch.cat(codes)
    save(made, kept)
    return made


def train_sd_inpaint(work: Path, scale: float) -> None:
    """From captions in five languages, a tenth of them left empty for guidance."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text = CLIPTextModelWithProjection.from_pretrained(work / "text_encoder").eval()
    drawn, clean = training_scenes(), latents(work)
    rows, masks, codes = masked(work)
    model, alphas = started(work), make_scheduler().alphas_cumprod

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        some = rng.sample(range(HOLES), BATCH)
        scenes = [drawn[row] for row in rows[some].tolist()]
        lines = ["" if rng.random() < DROPOUT else some_caption(scene, rng) for scene in scenes]
        with torch.no_grad():
            states = text(input_ids=tokens(tokenizer, lines).input_ids).last_hidden_state
        weight = KEPT_WEIGHT + (1 - KEPT_WEIGHT) * masks[some]
        extra = torch.cat([masks[some], codes[some]], 1)

        def predict(inputs: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return model(inputs, t, encoder_hidden_states=states).sample

        return noise_loss(predict, clean[rows[some]], alphas, extra, weight)

    steps = int(STEPS * scale)
    train(loss_at, model.parameters(), steps, 8e-4, work / "sd_inpaint.state", average=0.998)
    model.save_pretrained(work / "sd_inpaint")
