"""Kandinsky 3 equals the reference pipelines, to one level in a channel.

The reference is called for one image at a time with a fresh generator: it cuts a batch after its
longest prompt, so that there an image depends on what it is batched with.
"""

import inspect
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Kandinsky3Img2ImgPipeline, Kandinsky3Pipeline
from PIL import Image

from kandinsky.catalog.families import family
from kandinsky.catalog.schedulers import SCHEDULERS
from kandinsky.client import guides
from kandinsky.v1 import generation_pb2
from kandinsky.wire import tensors
from services.samplers.schedulers import new_scheduler
from tests import tiny_3
from tests.parity.conftest import Chain, pixels, running_chain

SEED, STEPS = 11, 6
SHORT, PROMPT, LONG = "dog", "a red cat", "a very large green bird that sings"
AS_LONG, SHORTER, LONGER = "an old ox", "bad", "ugly and badly drawn"
"""Negative prompts, by their tokens beside PROMPT's; a letter is a token."""


class Reference:
    """The diffusers pipelines on the same checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.text = Kandinsky3Pipeline.from_pretrained(folder / "kandinsky-3")
        self.image = Kandinsky3Img2ImgPipeline(**self.text.components)
        for pipeline in (self.text, self.image):
            pipeline.set_progress_bar_config(disable=True)

    def draw(
        self,
        prompt: str | list[str] | None,
        seed: int = SEED,
        pipeline: str = "text",
        **options: Any,
    ) -> np.ndarray:
        """int [H, W, 3]; of several prompts the first one's image."""
        size = {"height": 64, "width": 128} if pipeline == "text" else {}
        made = getattr(self, pipeline)(
            prompt,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            **{**size, **options},
        )
        return (made.images[0] * 255).round().astype(int)

    def encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """States [1, L, D] and mask [1, L], cut after the text's tokens and one position more."""
        states, _, mask, _ = self.text.encode_prompt(text, False, _cut_context=True)
        return states, mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_3.write_catalog(tiny_3.build(tmp_path_factory.mktemp("tiny-3")))


@pytest.fixture
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


def settings(**changes: object) -> dict[str, Any]:
    return {"seed": SEED, "steps": STEPS, "height": 64, "width": 128, **changes}


def assert_equal(image: generation_pb2.GeneratedImage, expected: np.ndarray) -> None:
    assert expected.std() > 5, "a flat image would equal anything"
    assert np.abs(pixels(image) - expected).max() <= 1


CASES: dict[str, dict[str, Any]] = {
    "one image": {"prompts": [PROMPT]},
    "three images of one prompt": {"prompts": [PROMPT], "images_per_prompt": 3},
    "prompts of three lengths, two images each": {
        "prompts": [SHORT, PROMPT, LONG],
        "images_per_prompt": 2,
    },
    "as many tokens as there are positions": {"prompts": ["o" * 126]},
    "a negative prompt as long": {"prompts": [PROMPT], "negative_prompts": [AS_LONG]},
    "a shorter negative prompt": {"prompts": [PROMPT], "negative_prompts": [SHORTER]},
    "a negative prompt for each": {
        "prompts": [LONG, PROMPT],
        "negative_prompts": [AS_LONG, SHORTER],
    },
    "one negative prompt for all": {"prompts": [LONG, PROMPT], "negative_prompts": [SHORTER]},
    "stronger guidance": {"prompts": [PROMPT], "guidance_scale": 7.5},
    "no guidance": {"prompts": [PROMPT, SHORT], "guidance_scale": 1.0},
    "a negative prompt without guidance": {
        "prompts": [PROMPT],
        "negative_prompts": [AS_LONG],
        "guidance_scale": 1.0,
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_images_equal_the_reference(
    chain: Chain, reference: Reference, case: dict[str, Any]
) -> None:
    images = await chain.ask("text_to_image", **settings(**case))
    prompts, each = case["prompts"], case.get("images_per_prompt", 1)
    negatives = case.get("negative_prompts", [None])
    assert len(images) == len(prompts) * each
    for index, image in enumerate(images):
        item = index // each
        expected = reference.draw(
            prompts[item],
            SEED + index,
            negative_prompt=negatives[item % len(negatives)],
            guidance_scale=case.get("guidance_scale", 3.0),
        )
        assert_equal(image, expected)


async def test_each_word_moves_the_image(chain: Chain) -> None:
    """So that the parity above means it."""
    drawn = [
        pixels((await chain.ask("text_to_image", prompt, **settings(negative_prompts=negative)))[0])
        for prompt, negative in [(PROMPT, None), (SHORT, None), (PROMPT, AS_LONG), (PROMPT, LONGER)]
    ]
    for i, one in enumerate(drawn):
        assert all(np.abs(one - other).max() > 50 for other in drawn[:i])


def test_defaults_are_the_pipelines_own() -> None:
    steps, scale, strength = (
        inspect.signature(pipeline.__call__).parameters[name].default
        for pipeline, name in (
            (Kandinsky3Pipeline, "num_inference_steps"),
            (Kandinsky3Pipeline, "guidance_scale"),
            (Kandinsky3Img2ImgPipeline, "strength"),
        )
    )
    [sampler] = family("kandinsky-3").samplers
    assert (sampler.steps, sampler.guidance_scale, sampler.strength) == (steps, scale, strength)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 64), (128, 128)])
async def test_sizes(chain: Chain, reference: Reference, height: int, width: int) -> None:
    size = {"height": height, "width": width}
    [image] = await chain.ask("text_to_image", PROMPT, **settings(**size))
    assert_equal(image, reference.draw(PROMPT, **size))


@pytest.fixture(scope="module")
def exact_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_3.build(tmp_path_factory.mktemp("exact-3"))
    return tiny_3.write_catalog(folder, dtype="float64")


@pytest.mark.parametrize("name", SCHEDULERS)
async def test_schedulers(exact_checkpoint: Path, name: str) -> None:
    """The reference never scales the UNet's input, and hands every step a generator: mended here.

    Euler's and Heun's would see noise that is too strong, and PNDM's step fails. In float64, since
    some amplify rounding.
    """
    reference = Reference(exact_checkpoint)
    reference.text.to(torch.float64)
    scheduler = reference.text.scheduler = new_scheduler(reference.text.scheduler, name)
    step = scheduler.step

    def scale(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        latent, timestep, *rest = arguments
        return scheduler.scale_model_input(latent, timestep), timestep, *rest

    reference.text.unet.register_forward_pre_hook(scale)
    if "generator" not in inspect.signature(step).parameters:
        scheduler.step = lambda *arguments, generator: step(*arguments)
    async with running_chain(exact_checkpoint) as chain:
        [image] = await chain.ask("text_to_image", PROMPT, **settings(scheduler=name))
    assert_equal(image, reference.draw(PROMPT))


async def test_given_latents(chain: Chain, reference: Reference) -> None:
    latents = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(5))
    images = await chain.ask(
        "text_to_image", PROMPT, latents=latents.numpy(), **settings(images_per_prompt=2)
    )
    for index, image in enumerate(images):
        assert_equal(
            image, reference.draw(PROMPT, SEED + index, latents=latents[index : index + 1])
        )


@pytest.mark.parametrize("negative", [None, AS_LONG])
async def test_given_embeddings(chain: Chain, reference: Reference, negative: str | None) -> None:
    """A negative side that is left out is zeros, as where a prompt has no negative one."""
    states, mask = reference.encode(PROMPT)
    given: dict[str, Any] = {"prompt_embeds": states, "attention_mask": mask}
    conditioning = conditioning_of(states, mask)
    if negative is not None:
        states, mask = reference.encode(negative)
        given |= {"negative_prompt_embeds": states, "negative_attention_mask": mask}
        conditioning |= conditioning_of(states, mask, "negative_")
    [image] = await chain.ask("generate", guides.embeddings([conditioning]), **settings())
    assert_equal(image, reference.draw(None, **given))
    assert_equal(image, reference.draw(PROMPT, negative_prompt=negative))


def conditioning_of(states: torch.Tensor, mask: torch.Tensor, side: str = "") -> Any:
    """One text's states and mask, [1, L, D] and [1, L], padded as the encoders pad them."""
    missing = tiny_3.POSITIONS - mask.shape[1]
    return {
        f"{side}text_states": np.pad(states[0].numpy(), ((0, missing), (0, 0))),
        f"{side}text_mask": np.pad(mask[0].bool().numpy(), (0, missing)),
    }


async def test_a_longer_negative_prompt_is_not_cut(chain: Chain, reference: Reference) -> None:
    """The reference cuts a negative prompt where the prompt ends; a plain loop does not.

    Their latents are compared: one position less makes no level of difference in the image.
    """
    [image] = await chain.ask("text_to_image", PROMPT, **settings(negative_prompts=LONGER))
    cut = reference.draw(PROMPT, negative_prompt=LONGER)
    assert np.abs(pixels(image) - cut).max() > 50
    scheduler, generator = reference.text.scheduler, torch.Generator().manual_seed(SEED)
    scheduler.set_timesteps(STEPS)
    latent = torch.randn(1, 4, 8, 16, generator=generator)
    with torch.inference_mode():
        for timestep in scheduler.timesteps:
            wanted, unwanted = (
                reference.text.unet(latent, timestep, *reference.encode(text)).sample
                for text in (PROMPT, LONGER)
            )
            guided = 4.0 * wanted - 3.0 * unwanted
            latent = scheduler.step(guided, timestep, latent, generator=generator).prev_sample
    options = settings(negative_prompts=LONGER, output_format="latents")
    [answer] = await chain.ask("text_to_image", PROMPT, **options)
    torch.testing.assert_close(tensors.to_torch(answer.tensor, ""), latent[0], atol=1e-4, rtol=0)


async def test_the_reference_s_image_depends_on_its_batch(reference: Reference) -> None:
    """Why each image here is held to the reference's of its prompt alone."""
    # One that draws nothing in its steps, so that the generator's order cannot be what differs.
    reference.text.scheduler = new_scheduler(reference.text.scheduler, "ddim")
    noise = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(5))
    for prompt, is_cut_alike in ((SHORT, False), (LONG, True)):
        alone = reference.draw(prompt, latents=noise)
        together = reference.draw([prompt, LONG], latents=noise.repeat(2, 1, 1, 1))
        assert (np.abs(together - alone).max() <= 1) == is_cut_alike


IMAGE = Image.fromarray(np.random.default_rng(4).integers(0, 256, (6, 10, 3), np.uint8)).resize(
    (128, 64), Image.Resampling.BICUBIC
)


@pytest.mark.parametrize("strength", [None, 0.5, 1.0])
@pytest.mark.parametrize("negative", [None, AS_LONG])
async def test_image_to_image(
    chain: Chain, reference: Reference, strength: float | None, negative: str | None
) -> None:
    named = {} if strength is None else {"strength": strength}
    expected = reference.draw(
        PROMPT, pipeline="image", image=IMAGE, negative_prompt=negative, **named
    )
    sent = io.BytesIO()
    IMAGE.save(sent, "PNG")
    options = {"negative_prompts": negative, "seed": SEED, "steps": STEPS, **named}
    [image] = await chain.ask("image_to_image", sent.getvalue(), PROMPT, **options)
    assert_equal(image, expected)
