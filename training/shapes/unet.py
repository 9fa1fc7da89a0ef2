"""The decoder's UNet."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel, VQModel

from training.shapes.clip import WIDTH
from training.shapes.data import movq_pixels, training_scenes
from training.shapes.loop import save, train
from training.shapes.prior import DROPOUT, image_embeddings, zero_embedding

STEPS, NAMED_STEPS = 5250, 3600
BATCH = 32
CELLS = 16  # latent cells a side: 128 pixels, factor 8


def make_scheduler() -> DDPMScheduler:
    """As Kandinsky 2.2 publishes it, but predicted latents are clipped at 4 deviations, not 1."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, clip_sample=True, clip_sample_range=4.0, steps_offset=1
    )


def make_unet(in_channels: int = 4, embedding: str = "image") -> UNet2DConditionModel:
    torch.manual_seed(3)
    return UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=in_channels,
        out_channels=8,
        addition_embed_type=embedding,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        down_block_types=("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 2,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D",) * 2 + ("ResnetUpsampleBlock2D",),
        block_out_channels=(64, 64, 96),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=32,
        resnet_time_scale_shift="scale_shift",
    )


@torch.no_grad()
def latents(work: Path) -> torch.Tensor:
    """[N, 4, 16, 16] of the training images, from the frozen autoencoder; kept once made."""
    kept = work / "latents.pt"
    if kept.exists():
        return torch.load(kept, weights_only=True, map_location=torch.get_default_device())
    movq = VQModel.from_pretrained(work / "movq").eval().to(torch.get_default_device())
    images = np.load(work / "images.npy", mmap_mode="r")
    pixels = (movq_pixels(images[i : i + 64]) for i in range(0, len(images), 64))
    made = torch.cat([movq.encode(batch.to(movq.device)).latents for batch in pixels])
    save(made, kept)
    return made


def noise_loss(predict, clean, alphas, extra=None, weight=None):
    """Mean square error of the predicted noise at a random timestep (Ho et al. 2020, eq. 14).

    Args:
        predict: the noise [B, 4, 16, 16] from a network's input and timesteps [B].
        clean: latents [B, 4, 16, 16].
        alphas: the scheduler's cumulative products [T].
        extra: further input channels [B, C, 16, 16].
        weight: of each cell, [B, 1, 16, 16].
    """
    t = torch.randint(0, len(alphas), (len(clean),))
    kept = alphas[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(clean)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    error = (predict(noisy if extra is None else torch.cat([noisy, extra], 1), t) - noise).square()
    return error.mean() if weight is None else (error * weight).mean() / weight.mean()


def embedding_loss(model, clean, embeddings, zero, extra=None, hint=None, weight=None):
    """`noise_loss` of a UNet that reads image embeddings.

    Args:
        model: the UNet.
        clean: latents [B, 4, 16, 16].
        embeddings: image embeddings [B, WIDTH].
        zero: what stands in for a dropped one, [1, WIDTH].
        extra: further input channels [B, C, 16, 16].
        hint: control hint [B, 3, 128, 128].
        weight: of each cell, [B, 1, 16, 16].
    """

    def predict(inputs, t):
        dropped = torch.rand(len(inputs), 1) < DROPOUT
        condition = {"image_embeds": torch.where(dropped, zero, embeddings)}
        if hint is not None:
            condition["hint"] = hint
        # Twice the latent's channels come out, whatever the variance type.
        return model(inputs, t, encoder_hidden_states=None, added_cond_kwargs=condition).sample[
            :, :4
        ]

    return noise_loss(predict, clean, make_scheduler().alphas_cumprod, extra, weight)


def named_rows() -> torch.Tensor:
    """Which images have colours with names; the others taught shapes to the encoders."""
    return torch.tensor([i for i, scene in enumerate(training_scenes()) if scene.colour])


def train_unet(work: Path, scale: float) -> None:
    """All images first, then, in a second cycle, those with named colours."""
    clean, embeddings, zero = latents(work), image_embeddings(work), zero_embedding(work)
    model = make_unet()

    def cycle(pool: torch.Tensor, steps: int, state: str) -> None:
        def loss_at(step: int) -> torch.Tensor:
            rows = pool[torch.randint(0, len(pool), (BATCH,))]
            return embedding_loss(model, clean[rows], embeddings[rows], zero)

        train(loss_at, model.parameters(), int(steps * scale), 8e-4, work / state, average=0.998)

    cycle(torch.arange(len(clean)), STEPS, "unet.state")
    cycle(named_rows(), NAMED_STEPS, "unet-named.state")
    model.save_pretrained(work / "unet")


def widened(work: Path, in_channels: int, embedding: str = "image") -> UNet2DConditionModel:
    """The trained UNet with more input channels, which it leaves out of account at first."""
    model = make_unet(in_channels, embedding)
    trained = UNet2DConditionModel.from_pretrained(work / "unet").state_dict()
    first = torch.zeros_like(model.conv_in.weight)
    first[:, :4] = trained["conv_in.weight"]
    model.load_state_dict({**model.state_dict(), **trained, "conv_in.weight": first})
    return model
