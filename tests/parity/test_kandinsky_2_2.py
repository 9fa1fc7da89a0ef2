"""Text to image of Kandinsky 2.2 equals the reference pipelines, to one level in a channel.

The reference is called as its documentation says, `prior(generator=…)` and then
`decoder(generator=…)`, with one fresh generator an image in each.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

from tests.parity.conftest import Chain, pixels

SEED = 11
STEPS, PRIOR_STEPS = 6, 4


class Reference:
    """The diffusers pipelines on the same checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.prior = KandinskyV22PriorPipeline.from_pretrained(folder / "prior")
        self.decoder = KandinskyV22Pipeline.from_pretrained(folder / "decoder")
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
        prior_latents: torch.Tensor | None = None,
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
            latents=prior_latents,
        )
        decoded = self.decoder(
            image_embeds=embeds.image_embeds,
            negative_image_embeds=embeds.negative_image_embeds,
            height=64,
            width=128,
            num_inference_steps=STEPS,
            guidance_scale=guidance_scale,
            generator=generators(),
            latents=latents,
            output_type="np",
        )
        return (decoded.images * 255).round().astype(int)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


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
    "no guidance at all, two images": {
        "prompts": ["a red cat", "dog"],
        "guidance_scale": 1.0,
        "prior_guidance_scale": 1.0,
    },
    "negative prompt, no guidance in the prior": {
        "prompts": ["a red cat"],
        "negative_prompts": ["ugly"],
        "prior_guidance_scale": 1.0,
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_images_equal_the_reference(chain: Chain, reference: Reference, case: dict) -> None:
    expected = reference.images(**case)
    images = await chain.ask("text_to_image", **settings(**case))
    assert [image.seed for image in images] == list(range(SEED, SEED + len(expected)))
    actual = np.stack([pixels(image) for image in images])
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1
    assert expected.std() > 5, "a flat image would equal anything"


async def test_given_latents_equal_the_reference(chain: Chain, reference: Reference) -> None:
    noise = torch.Generator().manual_seed(5)
    latents = torch.randn(2, 4, 8, 16, generator=noise)
    prior_latents = torch.randn(2, 32, generator=noise)
    expected = reference.images(
        ["a red cat"], images_per_prompt=2, latents=latents, prior_latents=prior_latents
    )
    images = await chain.ask(
        "text_to_image",
        "a red cat",
        latents=latents.numpy(),
        prior_latents=prior_latents.numpy(),
        **settings(images_per_prompt=2),
    )
    for image, one in zip(images, expected, strict=True):
        assert np.abs(pixels(image) - one).max() <= 1


async def test_a_batch_of_images_equals_the_same_requests_alone(chain: Chain) -> None:
    both = settings(images_per_prompt=2)
    together = await chain.ask("text_to_image", ["a red cat", "dog"], **both)
    for index, prompt in enumerate(["a red cat", "a red cat", "dog", "dog"]):
        [alone] = await chain.ask("text_to_image", prompt, **settings(seed=SEED + index))
        assert np.abs(pixels(alone) - pixels(together[index])).max() <= 1


async def test_precomputed_embeddings_stand_in_for_prompts(
    chain: Chain, reference: Reference
) -> None:
    embeds = reference.prior(
        "a red cat",
        num_inference_steps=PRIOR_STEPS,
        generator=torch.Generator().manual_seed(SEED),
    )
    without_prior = {"seed": SEED, "steps": STEPS, "height": 64, "width": 128}
    [given] = await chain.ask(
        "text_to_image",
        image_embeds=embeds.image_embeds.numpy(),
        negative_image_embeds=embeds.negative_image_embeds.numpy(),
        **without_prior,
    )
    [prompted] = await chain.ask("text_to_image", "a red cat", **settings())
    assert np.abs(pixels(given) - pixels(prompted)).max() <= 1
