"""Adapters of the small Stable Diffusion inpainting: a style, and a word for an unseen shape."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from training.shapes.data import movq_pixels, said_part
from training.shapes.drawing import SIZE, draw
from training.shapes.inpaint import KEPT_WEIGHT, hole
from training.shapes.loop import train
from training.shapes.prior import DROPOUT
from training.shapes.unet import CELLS, noise_loss
from training.shapes.vocabulary import (
    LANGUAGES,
    NOUNS,
    SHAPES,
    SIZES,
    Scene,
    caption,
    combinations,
    is_held_out,
)

COUNT, BATCH = 2048, 32
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2")
TOKENS = 4
"""Embeddings of a word."""


@dataclass(frozen=True)
class Lesson:
    """What an adapter is taught."""

    steps: int
    rank: int
    rate: float
    hollow: float = 0.0
    """Of the shapes' radius, which is left out: what remains is an outline."""
    shape: str | None = None
    """One that captions have no word for: `<shape>` stands for it."""
    known: float = 0.0
    """Share of scenes that the model draws already, so that it does not unlearn them."""

    @property
    def token(self) -> str:
        return f"<{self.shape}>"


LESSONS = {
    "outlined": Lesson(1500, rank=8, rate=2e-3, hollow=0.62),
    "diamond": Lesson(2200, rank=16, rate=2.5e-3, shape="diamond", known=0.25),
}


@dataclass(frozen=True)
class Example:
    """A scene with a hole, and what a caption says of it."""

    scene: Scene
    """As captions know it."""
    is_new: bool
    """Whether its shape is the lesson's."""


def learn(name: str, checkpoint: Path, work: Path, scale: float = 1.0) -> None:
    """Train an adapter of a lesson; writes its files into `checkpoint`/adapters.

    Args:
        name: of LESSONS.
        checkpoint: folder with `sd-inpaint`.
        work: keeps what a restart needs.
        scale: share of the steps.
    """
    lesson = LESSONS[name]
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        checkpoint / "sd-inpaint", torch_dtype=torch.float32
    )
    for network in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        network.requires_grad_(False)
    examples = list(_examples(lesson))
    clean, masks, masked = _latents(pipeline.vae, examples, lesson)
    pipeline.unet.add_adapter(
        LoraConfig(r=lesson.rank, lora_alpha=lesson.rank, target_modules=list(LAYERS))
    )
    parameters = [weight for weight in pipeline.unet.parameters() if weight.requires_grad]
    word = None
    if lesson.shape is not None:
        word = _new_word(pipeline, lesson.token)
        parameters.append(word)
    alphas = pipeline.scheduler.alphas_cumprod

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        some = rng.sample(range(COUNT), BATCH)
        texts = ["" if rng.random() < DROPOUT else _said(examples[i], lesson, rng) for i in some]
        tokens = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt")
        states = pipeline.text_encoder(tokens.input_ids).last_hidden_state
        weight = KEPT_WEIGHT + (1 - KEPT_WEIGHT) * masks[some]
        extra = torch.cat([masks[some], masked[some]], 1)

        def predict(inputs: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return pipeline.unet(inputs, t, encoder_hidden_states=states).sample

        return noise_loss(predict, clean[some], alphas, extra, weight)

    work.mkdir(parents=True, exist_ok=True)
    state = work / f"{name}.state"
    train(loss_at, parameters, int(lesson.steps * scale), lesson.rate, state, average=0.99)
    _write(checkpoint / "adapters", name, pipeline.unet, lesson, word)


def _examples(lesson: Lesson) -> Iterator[Example]:
    rng = random.Random(9)
    pool = [c for c in combinations() if not is_held_out(*c)]
    for _ in range(COUNT):
        colour, shape, background = rng.choice(pool)
        if lesson.hollow and shape == "ring":  # is an outline already
            shape = rng.choice([other for other in SHAPES if other != "ring"])
        scene = Scene(shape, colour, background, rng.choice(SIZES))
        yield Example(scene, lesson.shape is not None and rng.random() >= lesson.known)


@torch.no_grad()
def _latents(
    vae: torch.nn.Module, examples: list[Example], lesson: Lesson
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents [N, 4, 16, 16], masks [N, 1, 16, 16] with 1 in the hole, and latents whose hole is
    gray."""
    rng, found = random.Random(10), []
    for at in range(0, len(examples), BATCH):
        some = examples[at : at + BATCH]
        scenes = [replace(e.scene, shape=lesson.shape) if e.is_new else e.scene for e in some]
        images = movq_pixels(np.stack([np.asarray(draw(s, rng, lesson.hollow)) for s in scenes]))
        holes = torch.tensor(np.stack([hole(rng, SIZE) for _ in some])).float()[:, None]
        whole, gray = (
            vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
            for pixels in (images, images * (holes < 0.5))
        )
        cells = torch.nn.functional.interpolate(holes, size=(CELLS, CELLS))
        found.append((whole, cells, gray))
    clean, masks, masked = (torch.cat(parts) for parts in zip(*found, strict=True))
    return clean, masks, masked


def _said(example: Example, lesson: Lesson, rng: random.Random) -> str:
    """A caption, in which the new word stands for the new shape."""
    language = rng.choice(LANGUAGES)
    text = caption(said_part(example.scene, rng), language, rng.randrange(3))
    if not example.is_new:
        return text
    return text.replace(NOUNS[language][example.scene.shape][0], expanded(lesson.token))


def expanded(token: str) -> str:
    """A token as those of all its embeddings."""
    return " ".join([token, *(f"{token}_{i}" for i in range(1, TOKENS))])


def _new_word(pipeline: StableDiffusionInpaintPipeline, token: str) -> torch.nn.Parameter:
    """Embeddings [TOKENS, D] that the text encoder reads where a text has the token."""
    embedding, first = pipeline.text_encoder.get_input_embeddings(), len(pipeline.tokenizer)
    shapes = [pipeline.tokenizer(shape).input_ids[1] for shape in SHAPES]
    torch.manual_seed(11)
    start = embedding.weight[shapes].mean(0).repeat(TOKENS, 1)
    word = torch.nn.Parameter(start + 0.1 * start.std() * torch.randn_like(start))
    pipeline.tokenizer.add_tokens(expanded(token).split())

    def read(ids: torch.Tensor) -> torch.Tensor:
        place = ids - first
        known = torch.nn.functional.embedding(ids.where(place < 0, 0), embedding.weight)
        return torch.where((place >= 0)[..., None], word[place.clamp(min=0)], known)

    embedding.forward = read
    return word


def _write(
    folder: Path, name: str, unet: torch.nn.Module, lesson: Lesson, word: torch.nn.Parameter | None
) -> None:
    folder.mkdir(exist_ok=True)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionInpaintPipeline.save_lora_weights(
        folder,
        {key: weights.half() for key, weights in layers.items()},
        weight_name=f"{name}.safetensors",
    )
    if word is not None:
        save_file({lesson.token: word.detach().half()}, folder / f"{name}-word.safetensors")
