"""Text to image of Kandinsky 2.1 equals the reference pipelines, to one level in a channel.

With DDIM, which here does not clip, the comparison is in float64: in float32 random weights
amplify rounding, and the reference itself differs between a batch and the same image alone.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import KandinskyPipeline, KandinskyPriorPipeline

from tests import tiny_2_1
from tests.parity.conftest import Chain, pixels, running_chain

SEED = 11
STEPS, PRIOR_STEPS = 6, 4
DTYPES = {"ddim": "float64", "ddpm": "float32"}
"""By the scheduler that the checkpoint names."""


class Reference:
    """The diffusers pipelines on the same checkpoint."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.prior = KandinskyPriorPipeline.from_pretrained(folder / "prior", dtype=dtype)
        self.decoder = KandinskyPipeline.from_pretrained(folder / "decoder", dtype=dtype)
        for pipeline in (self.prior, self.decoder):
            pipeline.set_progress_bar_config(disable=True)

    def images(
        self,
        prompts: list[str],
        negative_prompts: list[str] | None = None,
        images_per_prompt: int = 1,
        guidance_scale: float = 4.0,
        prior_guidance_scale: float = 4.0,
        latents: torch.Tensor | None = None,
    ) -> np.ndarray:
        """int [images, H, W, 3]."""
        seeds = range(SEED, SEED + len(prompts) * images_per_prompt)

        def generators() -> list[torch.Generator]:
            return [torch.Generator().manual_seed(seed) for seed in seeds]

        # A negative prompt doubles the prior's rows, and each row takes a generator of its own.
        rows = generators() + (generators() if negative_prompts else [])
        embeds = self.prior(
            prompts,
            negative_prompt=negative_prompts,
            num_images_per_prompt=images_per_prompt,
            num_inference_steps=PRIOR_STEPS,
            guidance_scale=prior_guidance_scale,
            generator=rows,
        )

        def repeated(texts: list[str] | None) -> list[str] | None:
            return texts and [text for text in texts for _ in range(images_per_prompt)]

        decoded = self.decoder(
            repeated(prompts),
            image_embeds=embeds.image_embeds,
            negative_image_embeds=embeds.negative_image_embeds,
            negative_prompt=repeated(negative_prompts),
            height=64,
            width=128,
            num_inference_steps=STEPS,
            guidance_scale=guidance_scale,
            generator=generators(),
            latents=latents,
            output_type="np",
        )
        return (decoded.images * 255).round().astype(int)


@pytest.fixture(scope="module", params=list(DTYPES))
def dtype(request: pytest.FixtureRequest) -> str:
    return DTYPES[request.param]


@pytest.fixture(scope="module")
def checkpoint(dtype: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scheduler = None if dtype == DTYPES["ddim"] else tiny_2_1.ddpm_scheduler()
    folder = tiny_2_1.build(tmp_path_factory.mktemp("tiny-2-1"), scheduler=scheduler)
    return tiny_2_1.write_catalog(folder, dtype=dtype)


@pytest.fixture(scope="module")
def reference(checkpoint: Path, dtype: str) -> Reference:
    return Reference(checkpoint, getattr(torch, dtype))


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


def settings(**changes: object) -> dict[str, object]:
    return {
        "seed": SEED,
        "steps": STEPS,
        "prior_steps": PRIOR_STEPS,
        "height": 64,
        "width": 128,
        **changes,
    }


CASES = {
    "one image": {"prompts": ["a red cat"]},
    "three images of one prompt": {"prompts": ["a red cat"], "images_per_prompt": 3},
    "two prompts, two images each": {"prompts": ["a red cat", "dog"], "images_per_prompt": 2},
    "negative prompt": {"prompts": ["a red cat"], "negative_prompts": ["ugly"]},
    "negative prompts, two images each": {
        "prompts": ["a red cat", "dog"],
        "negative_prompts": ["ugly", "bad"],
        "images_per_prompt": 2,
    },
    "no guidance": {"prompts": ["a red cat"], "guidance_scale": 1.0},
    "no guidance in the prior": {"prompts": ["a red cat"], "prior_guidance_scale": 1.0},
    "negative prompt, no guidance in the prior": {
        "prompts": ["a red cat"],
        "negative_prompts": ["ugly"],
        "prior_guidance_scale": 1.0,
    },
    "negative prompt, no guidance in the decoder": {
        "prompts": ["a red cat"],
        "negative_prompts": ["ugly"],
        "guidance_scale": 1.0,
    },
    "no guidance at all, two images": {
        "prompts": ["a red cat", "dog"],
        "guidance_scale": 1.0,
        "prior_guidance_scale": 1.0,
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_images_equal_the_reference(chain: Chain, reference: Reference, case: dict) -> None:
    expected = reference.images(**case)
    images = await chain.ask("text_to_image", **settings(**case))
    actual = np.stack([pixels(image) for image in images])
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1
    assert expected.std() > 5, "a flat image would equal anything"


async def test_given_latents_equal_the_reference(chain: Chain, reference: Reference) -> None:
    latents = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(5))
    latents = latents.to(reference.decoder.unet.dtype)
    expected = reference.images(["a red cat"], images_per_prompt=2, latents=latents)
    images = await chain.ask(
        "text_to_image", "a red cat", latents=latents.numpy(), **settings(images_per_prompt=2)
    )
    for image, one in zip(images, expected, strict=True):
        assert np.abs(pixels(image) - one).max() <= 1


async def test_images_without_guidance_where_the_reference_fails(
    chain: Chain, reference: Reference
) -> None:
    """The reference repeats embeddings for several images under guidance alone."""
    embeds = reference.prior(["a red cat"], num_inference_steps=2)
    with pytest.raises(RuntimeError, match=r"[Ss]izes? of tensor"):
        reference.decoder(
            ["a red cat"],
            embeds.image_embeds,
            embeds.negative_image_embeds,
            num_images_per_prompt=2,
            guidance_scale=1.0,
            num_inference_steps=2,
        )
    unguided = settings(guidance_scale=1.0)
    together = await chain.ask("text_to_image", "a red cat", images_per_prompt=2, **unguided)
    for index, image in enumerate(together):
        alone_settings = {**unguided, "seed": SEED + index}
        [alone] = await chain.ask("text_to_image", "a red cat", **alone_settings)
        assert np.abs(pixels(alone) - pixels(image)).max() <= 1


async def test_image_embeddings_alone_are_read_beside_the_empty_text(
    chain: Chain, reference: Reference
) -> None:
    """The decoder reads a text too: the reference asks for one, which may be empty."""
    embeds = reference.prior(["a red cat"], num_inference_steps=2)
    options = {"height": 64, "width": 128, "num_inference_steps": STEPS, "output_type": "np"}
    seeded = torch.Generator().manual_seed(SEED)
    [expected] = reference.decoder(
        "", embeds.image_embeds, embeds.negative_image_embeds, generator=seeded, **options
    ).images
    [image] = await chain.ask(
        "text_to_image",
        image_embeds=embeds.image_embeds.numpy(),
        negative_image_embeds=embeds.negative_image_embeds.numpy(),
        seed=SEED,
        steps=STEPS,
        height=64,
        width=128,
    )
    assert np.abs(pixels(image) - (expected * 255).round()).max() <= 1


async def test_the_decoder_reads_the_text_too(
    chain: Chain, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its own text the reference makes another image, so the parity above means it."""
    expected = reference.images(["a red cat"])
    encode = reference.decoder._encode_prompt
    monkeypatch.setattr(
        reference.decoder, "_encode_prompt", lambda prompt, *rest: encode(["dog"], *rest)
    )
    assert np.abs(reference.images(["a red cat"]) - expected).max() > 1
    [image] = await chain.ask("text_to_image", "a red cat", **settings())
    assert np.abs(pixels(image) - expected[0]).max() <= 1
