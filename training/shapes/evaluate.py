"""How often images of held-out combinations show what their prompt says.

The rule was fixed before the first measurement: prompts are `held_out_prompts(count)`, image i
takes seed i for prior and decoder alike, each from a fresh generator.
"""

from collections import defaultdict
from pathlib import Path

import torch
from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline
from PIL import Image

from training.shapes.classifier import classify
from training.shapes.drawing import SIZE
from training.shapes.vocabulary import held_out_prompts

STEPS, GUIDANCE, BATCH = 25, 4.0, 20
ATTRIBUTES = ("colour", "background", "shape")


def generators(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def generate(folder: Path, prompts: list[str], first_seed: int = 0) -> list[Image.Image]:
    """One image a prompt, in batches; row i is drawn from seed `first_seed` + i."""
    settings = {"torch_dtype": torch.float32}
    prior = KandinskyV22PriorPipeline.from_pretrained(folder / "prior", **settings)
    decoder = KandinskyV22Pipeline.from_pretrained(folder / "decoder", **settings)
    for pipeline in (prior, decoder):
        pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = []
    for at in range(0, len(prompts), BATCH):
        some = prompts[at : at + BATCH]
        seeds = range(first_seed + at, first_seed + at + len(some))
        embeds = prior(
            some, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators(seeds)
        )
        images += decoder(
            image_embeds=embeds.image_embeds,
            negative_image_embeds=embeds.negative_image_embeds,
            height=SIZE,
            width=SIZE,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generators(seeds),
        ).images
    return images


def contact_sheet(images: list[Image.Image], columns: int = 10) -> Image.Image:
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (SIZE + 4), rows * (SIZE + 4)), "white")
    for i, image in enumerate(images):
        sheet.paste(image, ((i % columns) * (SIZE + 4), (i // columns) * (SIZE + 4)))
    return sheet


def evaluate(folder: Path, count: int, sheet: Path | None) -> dict[str, dict[str, float]]:
    """By language, and for all: how many prompts there were, and the share of each attribute right.

    Args:
        folder: of the checkpoint.
        count: prompts.
        sheet: where to write a contact sheet of the first images, if anywhere.
    """
    prompts = held_out_prompts(count)
    images = generate(folder, [p for p, _, _ in prompts])
    right: dict[str, list[dict[str, bool]]] = defaultdict(list)
    for image, (_, language, scene) in zip(images, prompts, strict=True):
        seen = classify(image)
        marks = {a: getattr(seen, a) == getattr(scene, a) for a in ATTRIBUTES}
        right["all"].append(marks)
        right[language].append(marks)
    if sheet:
        contact_sheet(images[:60]).save(sheet)
    return {
        group: {
            "count": len(marks),
            **{a: round(sum(m[a] for m in marks) / len(marks), 4) for a in ATTRIBUTES},
        }
        for group, marks in right.items()
    }
