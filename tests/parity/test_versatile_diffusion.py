"""Versatile Diffusion equals the pipelines of diffusers, to one level in a channel.

The reference changes a UNet that its pipelines share, in place: each gets a copy of its own. Its
dual guidance fails as it is, and is mended here.
"""

import contextlib
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.deprecated import versatile_diffusion
from PIL import Image

from kandinsky.client import guides
from kandinsky.v1 import generation_pb2
from kandinsky.wire.errors import from_rpc_error
from tests import tiny_versatile
from tests.parity.conftest import Chain, pixels, running_chain

SEED, STEPS = 11, 6
PROMPT, NEGATIVE = "a red cat", "blue"
SIZE = {"height": 64, "width": 128}


class Reference:
    """The diffusers pipelines on the same checkpoint."""

    def __init__(self, folder: Path) -> None:
        with tiny_versatile.findable():
            self.parts = versatile_diffusion.VersatileDiffusionPipeline.from_pretrained(
                folder / "versatile-diffusion"
            ).components

    def draw(
        self, name: str, *shown: Any, seed: int = SEED, scheduler: Any = None, **options: Any
    ) -> np.ndarray:
        """int [H, W, 3] of the pipeline of a name, such as `TextToImage`."""
        cls = getattr(versatile_diffusion, f"VersatileDiffusion{name}Pipeline")
        parts = copy.deepcopy(self.parts)
        if scheduler is not None:
            parts["scheduler"] = scheduler.from_config(parts["scheduler"].config)
        takes = cls.__init__.__annotations__
        pipeline = cls(**{part: value for part, value in parts.items() if part in takes})
        pipeline.set_progress_bar_config(disable=True)
        with tiny_versatile.mended():
            made = pipeline(
                *shown,
                num_inference_steps=STEPS,
                generator=torch.Generator().manual_seed(seed),
                output_type="np",
                **{**SIZE, **options},
            )
        return (made.images[0] * 255).round().astype(int)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_versatile.build(tmp_path_factory.mktemp("tiny-versatile"))
    return tiny_versatile.write_catalog(folder)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


def shown(seed: int = 3) -> np.ndarray:
    """uint8 [80, 96, 3]: squares of colours."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return values.repeat(16, 0).repeat(16, 1)


async def ask(chain: Chain, guide: Any, **options: Any) -> generation_pb2.GeneratedImage:
    chosen = {"seed": SEED, "steps": STEPS, **SIZE, **options}
    [image] = await chain.ask("generate", guide, **chosen)
    return image


def assert_equal(image: generation_pb2.GeneratedImage, expected: np.ndarray) -> None:
    assert expected.std() > 5, "a flat image would equal anything"
    assert np.abs(pixels(image) - expected).max() <= 1


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as it comes": ({}, {}),
    "stronger guidance": ({"guidance_scale": 12.0}, {"guidance_scale": 12.0}),
    "no guidance": ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
    "DDIM": ({"scheduler": "ddim"}, {"scheduler": DDIMScheduler}),
    "DDIM with an eta": (
        {"scheduler": "ddim", "eta": 0.6},
        {"scheduler": DDIMScheduler, "eta": 0.6},
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), OPTIONS.values(), ids=OPTIONS)
async def test_text_to_image(chain: Chain, reference: Reference, ours: Any, theirs: Any) -> None:
    image = await ask(chain, guides.text(PROMPT), **ours)
    assert_equal(image, reference.draw("TextToImage", PROMPT, **theirs))


async def test_a_negative_prompt(chain: Chain, reference: Reference) -> None:
    image = await ask(chain, guides.text(PROMPT), negative_prompts=NEGATIVE)
    expected = reference.draw("TextToImage", PROMPT, negative_prompt=NEGATIVE)
    assert_equal(image, expected)
    assert np.abs(expected - reference.draw("TextToImage", PROMPT)).max() > 1


@pytest.mark.parametrize(("ours", "theirs"), OPTIONS.values(), ids=OPTIONS)
async def test_image_variation(chain: Chain, reference: Reference, ours: Any, theirs: Any) -> None:
    image = await ask(chain, guides.image(shown()), **ours)
    expected = reference.draw("ImageVariation", Image.fromarray(shown()), **theirs)
    assert_equal(image, expected)


async def test_a_negative_image(chain: Chain, reference: Reference) -> None:
    image, away = shown(), shown(seed=4)
    expected = reference.draw(
        "ImageVariation", Image.fromarray(image), negative_prompt=Image.fromarray(away)
    )
    assert_equal(await ask(chain, guides.image(image), negative_images=away), expected)
    assert np.abs(expected - reference.draw("ImageVariation", Image.fromarray(image))).max() > 1


async def test_an_image_to_steer_away_from_beside_no_image_is_refused(chain: Chain) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await ask(chain, guides.text(PROMPT), negative_images=shown())
    [violation] = from_rpc_error(failure.value).violations
    assert violation.field == "negative.images"


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.75, 1.0])
async def test_dual_guidance(chain: Chain, reference: Reference, strength: float) -> None:
    guide = guides.text_and_image(PROMPT, shown(), text_to_image_strength=strength)
    expected = reference.draw(
        "DualGuided", PROMPT, Image.fromarray(shown()), text_to_image_strength=strength
    )
    assert_equal(await ask(chain, guide), expected)


async def test_half_is_the_share_where_none_is_named(chain: Chain, reference: Reference) -> None:
    image = await ask(chain, guides.text_and_image(PROMPT, shown()))
    expected = reference.draw("DualGuided", PROMPT, Image.fromarray(shown()))
    assert_equal(image, expected)


async def test_noise_that_is_given(chain: Chain, reference: Reference) -> None:
    noise = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(5))
    image = await ask(chain, guides.text(PROMPT), latents=noise.numpy())
    assert_equal(image, reference.draw("TextToImage", PROMPT, latents=noise))


def test_the_reference_cannot_load_what_is_published(checkpoint: Path) -> None:
    """Its index names a module that has moved; here each part is loaded by its own class."""
    with pytest.raises(ValueError, match=r"UNetFlatConditionModel|versatile_diffusion"):
        versatile_diffusion.VersatileDiffusionPipeline.from_pretrained(
            checkpoint / "versatile-diffusion"
        )


def test_the_references_dual_guidance_fails_as_it_is(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_versatile, "mended", contextlib.nullcontext)
    with pytest.raises(TypeError, match="encoder_attention_mask"):
        reference.draw("DualGuided", PROMPT, Image.fromarray(shown()))


async def test_the_reference_draws_another_image_once_it_was_saved(
    chain: Chain, reference: Reference, tmp_path: Path
) -> None:
    """Its constructor exchanges the attention of two UNets, and so does that of what it saved."""
    expected = reference.draw("TextToImage", PROMPT)
    parts = copy.deepcopy(reference.parts)
    cls = versatile_diffusion.VersatileDiffusionTextToImagePipeline
    takes = cls.__init__.__annotations__
    with tiny_versatile.findable():
        cls(**{name: part for name, part in parts.items() if name in takes}).save_pretrained(
            tmp_path
        )
        loaded = cls.from_pretrained(tmp_path)
    made = loaded(
        PROMPT,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(SEED),
        output_type="np",
        **SIZE,
    )
    assert np.abs((made.images[0] * 255).round() - expected).max() > 1
    assert_equal(await ask(chain, guides.text(PROMPT)), expected)
