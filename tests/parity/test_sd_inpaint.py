"""Stable Diffusion inpainting equals the reference pipeline, to one level in a channel."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image

from kandinsky.catalog.families import family
from kandinsky.client import canvases, guides
from services.samplers.schedulers import new_scheduler
from tests import tiny_sd_inpaint
from tests.parity.conftest import Chain, pixels, running_chain

SEED, STEPS, HEIGHT, WIDTH = 11, 6, 64, 128
PROMPT, OTHER, NEGATIVE = "a red cat", "dog", "ugly and badly drawn"


def smooth_image(height: int, width: int, seed: int = 3) -> np.ndarray:
    """uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


def box_mask(height: int, width: int) -> np.ndarray:
    """uint8 [H, W]: a white box off the cells' edges, with a grey edge of both sides of half."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 6 : height // 2 + 9, width // 4 - 3 : width // 2 + 13] = 100
    mask[height // 6 + 2 : height // 2 + 5, width // 4 : width // 2 + 9] = 255
    return mask


IMAGE, MASK = smooth_image(HEIGHT, WIDTH), box_mask(HEIGHT, WIDTH)


class Reference:
    """The diffusers pipeline on the same checkpoint, a fresh generator an image."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            folder / "sd-inpaint", safety_checker=None
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self._scheduler = self.pipeline.scheduler

    def draw(
        self,
        prompt: str | None = PROMPT,
        seed: int = SEED,
        image: Any = IMAGE,
        mask: np.ndarray = MASK,
        scheduler: str | None = None,
        output_type: str = "np",
        **options: Any,
    ) -> np.ndarray:
        """int [H, W, 3]."""
        self.pipeline.scheduler = new_scheduler(self._scheduler, scheduler)
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        made = self.pipeline(
            prompt,
            image=image,
            mask_image=Image.fromarray(mask),
            generator=torch.Generator().manual_seed(seed),
            output_type=output_type,
            **{"num_inference_steps": STEPS, "height": HEIGHT, "width": WIDTH, **options},
        ).images[0]
        if output_type == "pil":
            return np.asarray(made).astype(int)
        return (made * 255).round().astype(int)


@pytest.fixture(scope="module", params=[9, 4], ids=["nine channels", "four channels"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"sd-{request.param}")
    return tiny_sd_inpaint.write_catalog(tiny_sd_inpaint.build(folder, channels=request.param))


@pytest.fixture
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


def settings(**changes: object) -> dict[str, Any]:
    return {"seed": SEED, "steps": STEPS, "height": HEIGHT, "width": WIDTH, **changes}


async def inpainted(
    chain: Chain, prompts: Any = PROMPT, image: Any = IMAGE, mask: Any = MASK, **options: Any
) -> list[np.ndarray]:
    answer = await chain.ask("inpaint", image, mask, prompts, **settings(**options))
    return [pixels(image) for image in answer]


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    assert expected.std() > 5, "a flat image would equal anything"
    assert np.abs(actual - expected).max() <= 1


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one image": ({}, {}),
    "a negative prompt": ({"negative_prompts": [NEGATIVE]}, {"negative_prompt": NEGATIVE}),
    "no guidance": ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
    "stronger guidance": ({"guidance_scale": 12.0}, {"guidance_scale": 12.0}),
    "half the strength": ({"strength": 0.5}, {"strength": 0.5}),
    "eta": ({"eta": 0.7}, {"eta": 0.7}),
    "eta at half the strength": ({"eta": 1.0, "strength": 0.5}, {"eta": 1.0, "strength": 0.5}),
}


@pytest.mark.parametrize(("ours", "theirs"), CASES.values(), ids=CASES)
async def test_images_equal_the_reference(
    chain: Chain, reference: Reference, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    [actual] = await inpainted(chain, **ours)
    assert_equal(actual, reference.draw(**theirs))


async def test_prompts_and_images_per_prompt(chain: Chain, reference: Reference) -> None:
    drawn = await inpainted(chain, [PROMPT, OTHER], images_per_prompt=2, strength=0.8)
    for index, actual in enumerate(drawn):
        expected = reference.draw([PROMPT, OTHER][index // 2], SEED + index, strength=0.8)
        assert_equal(actual, expected)


async def test_image_and_mask_of_other_sizes(chain: Chain, reference: Reference) -> None:
    image, mask = smooth_image(90, 200), box_mask(75, 110)
    [actual] = await inpainted(chain, image=image, mask=mask)
    assert_equal(actual, reference.draw(image=image, mask=mask))


@pytest.mark.parametrize("strength", [1.0, 0.5])
async def test_given_latents(chain: Chain, reference: Reference, strength: float) -> None:
    """Where the loop starts from in the reference, whatever the strength."""
    latents = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(5))
    [actual] = await inpainted(chain, latents=latents.numpy(), strength=strength, eta=0.5)
    expected = reference.draw(latents=latents, strength=strength, eta=0.5)
    assert_equal(actual, expected)
    assert np.abs(actual - (await inpainted(chain, strength=strength, eta=0.5))[0]).max() > 10


async def test_prompt_embeddings(chain: Chain, reference: Reference) -> None:
    with torch.no_grad():
        states, negative = reference.pipeline.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    guide = guides.embeddings(
        [{"text_states": states[0].numpy(), "negative_text_states": negative[0].numpy()}]
    )
    canvas = canvases.inpaint(MASK, IMAGE)
    [image] = await chain.ask("generate", guide, canvas, **settings())
    expected = reference.draw(None, prompt_embeds=states, negative_prompt_embeds=negative)
    assert_equal(pixels(image), expected)


async def test_outpainting_is_inpainting_of_repeated_edges(
    chain: Chain, reference: Reference
) -> None:
    inner = IMAGE[:, :64]
    options = {"seed": SEED, "steps": STEPS}
    [image] = await chain.ask("outpaint", inner, PROMPT, right=64, **options)
    mask = np.pad(np.zeros((64, 64), np.uint8), ((0, 0), (0, 64)), constant_values=255)
    grown = np.pad(inner, ((0, 0), (0, 64), (0, 0)), mode="edge")
    assert_equal(pixels(image), reference.draw(image=grown, mask=mask))


CROPS: dict[str, tuple[tuple[int, int], tuple[int, int, int, int], int]] = {
    "a box inside": ((200, 300), (60, 80, 100, 150), 16),
    "a box at a corner": ((200, 300), (0, 0, 40, 30), 8),
    "a box as high as the image": ((96, 300), (0, 100, 96, 140), 4),
    "an image too narrow for the canvas": ((300, 90), (40, 10, 160, 80), 12),
}


@pytest.mark.parametrize(("size", "box", "padding"), CROPS.values(), ids=CROPS)
async def test_padding_mask_crop(
    chain: Chain,
    reference: Reference,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    padding: int,
) -> None:
    image, mask = smooth_image(*size), np.zeros(size, np.uint8)
    top, left, bottom, right = box
    mask[top:bottom, left:right] = 255
    mask[top:bottom, left : left + 6] = 140
    [actual] = await inpainted(chain, image=image, mask=mask, padding_mask_crop=padding)
    expected = reference.draw(image=image, mask=mask, padding_mask_crop=padding, output_type="pil")
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1
    assert np.abs(actual - image)[mask > 0].mean() > 5


def test_defaults_are_the_pipeline_s_own() -> None:
    [sampler] = family("stable-diffusion-inpainting").samplers
    defaults = inspect.signature(StableDiffusionInpaintPipeline.__call__).parameters
    names = ("num_inference_steps", "guidance_scale", "strength")
    assert [defaults[name].default for name in names] == [
        sampler.steps,
        sampler.guidance_scale,
        sampler.inpaint_strength,
    ]
