"""Stable Diffusion's inpainting classes: a UNet that reads a prompt's states, and fills holes.

Nine input channels: noisy latents, the mask (1 = generate), the latents of the image whose hole is
gray. No prior stands before it.
"""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, VQModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.shapes.clip import WIDTH
from training.shapes.data import movq_pixels, some_caption, training_scenes
from training.shapes.drawing import SIZE
from training.shapes.inpaint import KEPT_WEIGHT, hole
from training.shapes.loop import save, train
from training.shapes.prior import DROPOUT
from training.shapes.unet import CELLS, latents, named_rows, noise_loss

STEPS = 6_000
BATCH = 32
POSITIONS = 77
"""Tokens of a text, as of every published Stable Diffusion."""
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


def make_text_encoder(work: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Those of the prior, for longer texts: the last position stands for all that follow.

    No caption is that long, and each token looks back alone: what a text's own tokens give is the
    same.
    """
    short = CLIPTextModel.from_pretrained(work / "text_encoder")
    config = CLIPTextConfig.from_dict(
        {**short.config.to_dict(), "max_position_embeddings": POSITIONS}
    )
    weights = short.state_dict()
    for name, known in weights.items():
        if name.endswith("position_embedding.weight"):
            weights[name] = torch.cat([known, known[-1:].expand(POSITIONS - len(known), -1)])
    model = CLIPTextModel(config).eval()
    model.load_state_dict(weights)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", model_max_length=POSITIONS)
    return tokenizer, model


def make_unet() -> UNet2DConditionModel:
    """An untrained one."""
    torch.manual_seed(5)
    return UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=9,
        out_channels=4,
        # Attention at 16 cells a side would double what a step costs.
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
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
    tokenizer, text = make_text_encoder(work)
    drawn, clean = training_scenes(), latents(work)
    rows, masks, codes = masked(work)
    model, alphas = started(work), make_scheduler().alphas_cumprod

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        some = rng.sample(range(HOLES), BATCH)
        scenes = [drawn[row] for row in rows[some].tolist()]
        lines = ["" if rng.random() < DROPOUT else some_caption(scene, rng) for scene in scenes]
        with torch.no_grad():
            words = tokenizer(lines, padding="max_length", return_tensors="pt")
            states = text(input_ids=words.input_ids).last_hidden_state
        weight = KEPT_WEIGHT + (1 - KEPT_WEIGHT) * masks[some]
        extra = torch.cat([masks[some], codes[some]], 1)

        def predict(inputs: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return model(inputs, t, encoder_hidden_states=states).sample

        return noise_loss(predict, clean[rows[some]], alphas, extra, weight)

    steps = int(STEPS * scale)
    train(loss_at, model.parameters(), steps, 8e-4, work / "sd_inpaint.state", average=0.998)
    model.save_pretrained(work / "sd_inpaint")
