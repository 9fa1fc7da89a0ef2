"""Karlo equals the unCLIP pipelines of diffusers, to one level in a channel.

In float64, since float32 amplifies rounding over its learned variance on random weights. One image
a call of the reference, each with a fresh generator, which goes through all of its loops.
"""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated import unclip
from PIL import Image

from kandinsky.client import guides
from kandinsky.v1 import generation_pb2
from tests import tiny_karlo
from tests.parity.conftest import Chain, pixels, running_chain

SEED = 11
PROMPT, OTHER = "a red cat", "a very large green bird that sings"
SIZE = {"height": tiny_karlo.LARGE, "width": tiny_karlo.LARGE}
STEPS = {"prior_steps": 4, "steps": 6, "super_resolution_steps": 5}


class Reference:
    """The diffusers pipelines on the same checkpoints."""

    def __init__(self, folder: Path) -> None:
        with tiny_karlo.findable():
            self.text = unclip.UnCLIPPipeline.from_pretrained(folder / "karlo")
            self.image = unclip.UnCLIPImageVariationPipeline.from_pretrained(
                folder / "karlo-image-variations"
            )
        for pipeline in (self.text, self.image):
            pipeline.to(torch.float64)
            pipeline.set_progress_bar_config(disable=True)

    def draw(
        self,
        prompt: str | None = None,
        image: Image.Image | None = None,
        seed: int = SEED,
        steps: dict[str, int] = STEPS,
        **options: Any,
    ) -> np.ndarray:
        """int [H, W, 3]."""
        counts = {
            "decoder_num_inference_steps": steps["steps"],
            "super_res_num_inference_steps": steps["super_resolution_steps"],
        }
        of_prior = {"prior_num_inference_steps": steps["prior_steps"]}
        guide = {"image": image} if prompt is None else {"prompt": prompt, **of_prior}
        if "image_embeddings" in options:
            guide = {}
        if "text_model_output" in options:
            guide = of_prior
        pipeline = self.text if "prior_num_inference_steps" in guide else self.image
        made = pipeline(
            **guide,
            **counts,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            **options,
        )
        return (made.images[0] * 255).round().astype(int)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_karlo.build(tmp_path_factory.mktemp("tiny-karlo"))
    return tiny_karlo.write_catalog(folder, dtype="float64")


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


def shown(seed: int = 3) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(values.repeat(16, 0).repeat(16, 1))


def file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def noise(*shape: int, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *shape, generator=generator, dtype=torch.float64)


def assert_equal(image: generation_pb2.GeneratedImage, expected: np.ndarray) -> None:
    assert expected.std() > 5, "a flat image would equal anything"
    assert np.abs(pixels(image) - expected).max() <= 1


GUIDANCE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as it comes": ({}, {}),
    "stronger in the prior": ({"prior_guidance_scale": 7.0}, {"prior_guidance_scale": 7.0}),
    "stronger in the decoder": ({"guidance_scale": 12.0}, {"decoder_guidance_scale": 12.0}),
    "in the prior alone": ({"guidance_scale": 1.0}, {"decoder_guidance_scale": 1.0}),
    "in the decoder alone": ({"prior_guidance_scale": 1.0}, {"prior_guidance_scale": 1.0}),
    "nowhere": (
        {"guidance_scale": 1.0, "prior_guidance_scale": 1.0},
        {"decoder_guidance_scale": 1.0, "prior_guidance_scale": 1.0},
    ),
}


@pytest.mark.parametrize("guidance", GUIDANCE.values(), ids=GUIDANCE)
async def test_text_to_image(chain: Chain, reference: Reference, guidance: Any) -> None:
    ours, theirs = guidance
    [image] = await chain.ask("text_to_image", PROMPT, seed=SEED, **STEPS, **ours)
    assert_equal(image, reference.draw(PROMPT, **theirs))


async def test_each_image_of_each_prompt_is_drawn_from_its_own_seed(
    chain: Chain, reference: Reference
) -> None:
    images = await chain.ask(
        "text_to_image", [PROMPT, OTHER], images_per_prompt=2, seed=SEED, **STEPS
    )
    for index, image in enumerate(images):
        prompt = (PROMPT, OTHER)[index // 2]
        assert_equal(image, reference.draw(prompt, seed=SEED + index))


@pytest.mark.parametrize(
    "steps",
    [
        {"prior_steps": 2, "steps": 2, "super_resolution_steps": 2},
        {"prior_steps": 3, "steps": 9, "super_resolution_steps": 4},
    ],
    ids=str,
)
async def test_each_loop_has_its_own_steps(
    chain: Chain, reference: Reference, steps: dict[str, int]
) -> None:
    [image] = await chain.ask("text_to_image", PROMPT, seed=SEED, **steps)
    assert_equal(image, reference.draw(PROMPT, steps=steps))


GIVEN: dict[str, tuple[str, tuple[int, ...]]] = {
    "prior_latents": ("prior_latents", (tiny_karlo.WIDTH,)),
    "latents": ("decoder_latents", (3, tiny_karlo.SMALL, tiny_karlo.SMALL)),
    "super_resolution_latents": ("super_res_latents", (3, tiny_karlo.LARGE, tiny_karlo.LARGE)),
}


@pytest.mark.parametrize("option", GIVEN)
async def test_noise_that_is_given(chain: Chain, reference: Reference, option: str) -> None:
    theirs, shape = GIVEN[option]
    given = noise(*shape)
    [image] = await chain.ask(
        "text_to_image", PROMPT, seed=SEED, **STEPS, **{option: given.numpy()}
    )
    assert_equal(image, reference.draw(PROMPT, **{theirs: given}))


@pytest.mark.parametrize("scale", [8.0, 3.0, 1.0])
async def test_image_variation(chain: Chain, reference: Reference, scale: float) -> None:
    steps = {name: count for name, count in STEPS.items() if name != "prior_steps"}
    [image] = await chain.ask(
        "variation", file(shown()), seed=SEED, guidance_scale=scale, **SIZE, **steps
    )
    assert_equal(image, reference.draw(image=shown(), decoder_guidance_scale=scale))


async def test_an_image_embedding_that_is_given(chain: Chain, reference: Reference) -> None:
    embed = noise(tiny_karlo.WIDTH)
    steps = {name: count for name, count in STEPS.items() if name != "prior_steps"}
    guide = guides.image_embeds(embed.numpy())
    [image] = await chain.ask("generate", guide, seed=SEED, **steps)
    assert_equal(image, reference.draw(image_embeddings=embed))


def text_output(seed: int) -> dict[str, np.ndarray]:
    """What a text encoder might have made of a text: embedding, states, mask."""
    draw = np.random.default_rng(seed).standard_normal
    return {
        "text_embed": draw(tiny_karlo.WIDTH),
        "text_states": draw((tiny_karlo.POSITIONS, tiny_karlo.WIDTH)),
        "text_mask": np.arange(tiny_karlo.POSITIONS) < 5 + seed,
    }


GUIDED_IN = {
    "both stages": ({}, {}),
    "the prior alone": ({"guidance_scale": 1.0}, {"decoder_guidance_scale": 1.0}),
    "the decoder alone": ({"prior_guidance_scale": 1.0}, {"prior_guidance_scale": 1.0}),
}


@pytest.mark.parametrize("guidance", GUIDED_IN.values(), ids=GUIDED_IN)
async def test_texts_that_are_given_encoded(
    chain: Chain, reference: Reference, guidance: Any
) -> None:
    """The prior samples for them; beside them, "" is encoded."""
    ours, theirs = guidance
    texts = [text_output(1), text_output(2)]
    images = await chain.ask("generate", guides.embeddings(texts), seed=SEED, **STEPS, **ours)
    for seed, (image, text) in enumerate(zip(images, texts, strict=True), start=SEED):
        embed, states, mask = (torch.from_numpy(part)[None] for part in text.values())
        expected = reference.draw(
            text_model_output=(embed, states), text_attention_mask=mask, seed=seed, **theirs
        )
        assert_equal(image, expected)


async def test_an_encoded_text_steers_away_from_what_it_names(chain: Chain) -> None:
    text, other = text_output(1), text_output(2)
    negative = {f"negative_{name}": part for name, part in other.items()}
    away, plain = [
        pixels((await chain.ask("generate", guides.embeddings([each]), seed=SEED, **STEPS))[0])
        for each in ({**text, **negative}, text)
    ]
    assert np.abs(away - plain).max() > 1


async def test_the_small_image_is_what_latents_are(chain: Chain) -> None:
    [image] = await chain.ask("text_to_image", PROMPT, seed=SEED, output_format="latents", **STEPS)
    assert list(image.tensor.shape) == [3, tiny_karlo.SMALL, tiny_karlo.SMALL]
