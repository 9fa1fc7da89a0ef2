"""Adapters of the small Stable Diffusion inpainting: a style, and a word for an unseen shape."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from training.shapes.data import said_part
from training.shapes.holes import BATCH, COUNT, Example, encoded, frozen, scenes_with, text_states
from training.shapes.loop import train
from training.shapes.prior import DROPOUT
from training.shapes.vocabulary import LANGUAGES, NOUNS, SHAPES, caption

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


def learn(name: str, checkpoint: Path, work: Path, scale: float = 1.0) -> None:
    """Train an adapter of a lesson; writes its files into `checkpoint`/adapters.

    Args:
        name: of LESSONS.
        checkpoint: folder with `sd-inpaint`.
        work: keeps what a restart needs.
        scale: share of the steps.
    """
    lesson = LESSONS[name]
    pipeline = frozen(checkpoint)
    pool = [shape for shape in SHAPES if not (lesson.hollow and shape == "ring")]
    examples = list(scenes_with(lesson.shape, lesson.known, pool))
    holes = encoded(pipeline.vae, examples, lesson.hollow)
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
        states = text_states(pipeline, texts)
        return holes.loss(
            some, alphas, lambda inputs, t: pipeline.unet(inputs, t, states, return_dict=False)[0]
        )

    work.mkdir(parents=True, exist_ok=True)
    state = work / f"{name}.state"
    train(loss_at, parameters, int(lesson.steps * scale), lesson.rate, state, average=0.99)
    _write(checkpoint / "adapters", name, pipeline.unet, lesson, word)


def _said(example: Example, lesson: Lesson, rng: random.Random) -> str:
    """A caption, in which the new word stands for the new shape."""
    language = rng.choice(LANGUAGES)
    text = caption(said_part(example.said, rng), language, rng.randrange(3))
    if not example.is_new:
        return text
    return text.replace(NOUNS[language][example.said.shape][0], expanded(lesson.token))


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
