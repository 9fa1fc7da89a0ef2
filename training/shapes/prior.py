"""The prior: from a prompt's CLIP text states to an image's CLIP embedding."""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import PriorTransformer, UnCLIPScheduler
from torch.nn import functional as F
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from training.shapes.clip import POSITIONS, WIDTH, tokens
from training.shapes.data import clip_pixels, some_caption, training_scenes
from training.shapes.loop import train

STEPS = 1750
BATCH = 192
DROPOUT = 0.12  # share of rows that learn without a prompt, for guidance


def make_scheduler() -> UnCLIPScheduler:
    return UnCLIPScheduler(
        variance_type="fixed_small_log", clip_sample_range=5.0, prediction_type="sample"
    )


def make_prior() -> PriorTransformer:
    torch.manual_seed(2)
    return PriorTransformer(
        num_attention_heads=4,
        attention_head_dim=WIDTH // 4,
        num_layers=4,
        embedding_dim=WIDTH,
        num_embeddings=POSITIONS,
        additional_embeddings=4,
    )


@torch.no_grad()
def image_embeddings(work: Path) -> torch.Tensor:
    """[N, WIDTH] of the training images, from the frozen image encoder."""
    encoder = image_encoder(work)
    small = np.load(work / "small.npy", mmap_mode="r")
    pixels = (clip_pixels(small[i : i + 256]) for i in range(0, len(small), 256))
    return torch.cat([encoder(pixel_values=p.to(encoder.device)).image_embeds for p in pixels])


@torch.no_grad()
def zero_embedding(work: Path) -> torch.Tensor:
    """[1, WIDTH]: the image encoder's output for a zero tensor, the decoder's "nothing"."""
    encoder = image_encoder(work)
    size = encoder.config.image_size
    return encoder(pixel_values=torch.zeros(1, 3, size, size)).image_embeds


def image_encoder(work: Path) -> CLIPVisionModelWithProjection:
    encoder = CLIPVisionModelWithProjection.from_pretrained(work / "image_encoder").eval()
    return encoder.to(torch.get_default_device())


def train_prior(work: Path, scale: float) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text = CLIPTextModelWithProjection.from_pretrained(work / "text_encoder").eval()
    targets = image_embeddings(work)
    drawn = training_scenes()
    model, scheduler = make_prior(), make_scheduler()
    with torch.no_grad():
        model.clip_mean.copy_(targets.mean(0, keepdim=True))
        model.clip_std.copy_(targets.std(0, keepdim=True))
    white = ((targets - model.clip_mean) / model.clip_std).detach()
    alphas = scheduler.alphas_cumprod

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        rows = rng.sample(range(len(drawn)), BATCH)
        lines = ["" if rng.random() < DROPOUT else some_caption(drawn[i], rng) for i in rows]
        words = tokens(tokenizer, lines)
        with torch.no_grad():
            said = text(**words)
        t = torch.randint(0, len(alphas), (BATCH,))
        kept = alphas[t, None]
        noisy = kept.sqrt() * white[rows] + (1 - kept).sqrt() * torch.randn(BATCH, WIDTH)
        guess = model(
            noisy,
            timestep=t,
            proj_embedding=said.text_embeds,
            encoder_hidden_states=said.last_hidden_state,
            attention_mask=words.attention_mask.bool(),
        ).predicted_image_embedding
        return F.mse_loss(guess, white[rows])

    weights = [p for n, p in model.named_parameters() if n not in ("clip_mean", "clip_std")]
    train(loss_at, weights, int(STEPS * scale), 1e-3, work / "prior.state", average=0.995)
    model.save_pretrained(work / "prior")
