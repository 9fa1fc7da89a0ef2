"""An IP-Adapter of the small Stable Diffusion inpainting: it draws what an image shows."""

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection

from training.shapes.clip import WIDTH
from training.shapes.data import CLIP_SIZE, clip_pixels, some_caption
from training.shapes.drawing import draw
from training.shapes.holes import BATCH, COUNT, Example, encoded, frozen, scenes_with, text_states
from training.shapes.loop import train

STEPS, RATE = 2000, 1e-3
TOKENS = 4
"""Of an image."""
TEXTS = 0.4
"""Share of examples that have a caption beside the image."""
SHOWN = 0.9
"""Share that have the image; guidance steers away from none."""


def learn_shown(checkpoint: Path, work: Path, scale: float = 1.0) -> None:
    """Train what the UNet makes of image embeddings; writes `adapters/shown.safetensors`.

    Args:
        checkpoint: folder with `sd-inpaint` and `prior`, whose image encoder it reads.
        work: keeps what a restart needs.
        scale: share of the steps.
    """
    pipeline = frozen(checkpoint)
    examples = list(scenes_with())
    holes, embeds = encoded(pipeline.vae, examples), _shown(checkpoint, examples)
    unet, alphas = pipeline.unet, pipeline.scheduler.alphas_cumprod
    pipeline.load_ip_adapter(_started(unet), None, None, image_encoder_folder=None)
    layers = [p for p in unet.attn_processors.values() if isinstance(p, torch.nn.Module)]
    learnt = torch.nn.ModuleList([unet.encoder_hid_proj, *layers]).requires_grad_(True)

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        some = rng.sample(range(COUNT), BATCH)
        scenes = [examples[i].scene for i in some]
        states = text_states(
            pipeline, [some_caption(s, rng) if rng.random() < TEXTS else "" for s in scenes]
        )
        has_image = torch.tensor([[float(rng.random() < SHOWN)] for _ in some])
        shown = {"image_embeds": [(embeds[some] * has_image)[:, None]]}
        return holes.loss(
            some, alphas, lambda x, t: unet(x, t, states, added_cond_kwargs=shown).sample
        )

    work.mkdir(parents=True, exist_ok=True)
    state = work / "shown.state"
    train(loss_at, learnt.parameters(), int(STEPS * scale), RATE, state, average=0.99)
    save_file(_published(unet), checkpoint / "adapters" / "shown.safetensors")


@torch.no_grad()
def _shown(checkpoint: Path, examples: list[Example]) -> torch.Tensor:
    """[N, WIDTH]: of other images than those with the holes, which show the same."""
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        checkpoint / "prior" / "image_encoder", dtype=torch.float32
    )
    rng, found, side = random.Random(12), [], (CLIP_SIZE, CLIP_SIZE)
    for at in range(0, len(examples), BATCH):
        images = [draw(e.scene, rng) for e in examples[at : at + BATCH]]
        small = [np.asarray(i.resize(side, Image.Resampling.BICUBIC)) for i in images]
        found.append(encoder(clip_pixels(np.stack(small))).image_embeds)
    return torch.cat(found)


def _started(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter whose attentions make of an image what they make of a text."""
    torch.manual_seed(13)
    width = unet.config.cross_attention_dim
    projection = torch.nn.Linear(WIDTH, TOKENS * width)
    paths = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    attention = {
        f"{2 * i + 1}.to_{part}_ip.weight": unet.get_parameter(f"{path}.to_{part}.weight").clone()
        for i, path in enumerate(paths)
        for part in ("k", "v")
    }
    norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    image = {f"proj.{key}": value.detach() for key, value in projection.state_dict().items()}
    return {"image_proj": {**image, **norm}, "ip_adapter": attention}


def _published(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """What was learnt, as IP-Adapters are published."""
    [projection] = unet.encoder_hid_proj.image_projection_layers
    found = {
        f"image_proj.{key.replace('image_embeds', 'proj')}": value
        for key, value in projection.state_dict().items()
    }
    layers = [p for p in unet.attn_processors.values() if isinstance(p, torch.nn.Module)]
    for i, layer in enumerate(layers):
        for part in ("k", "v"):
            [own] = getattr(layer, f"to_{part}_ip")
            found[f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight"] = own.weight
    return {key: value.detach().half().contiguous() for key, value in found.items()}
