"""Where the reference fails or is wrong, and what is right here.

Two more are shown elsewhere: a batch that the reference blends with its first image alone, in
tests/services/test_inpaint.py, and the second image without guidance, in test_flows.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import diffusers
import grpc
import numpy as np
import pytest
import torch
from diffusers import (
    Kandinsky3Pipeline,
    KandinskyImg2ImgCombinedPipeline,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22PriorEmb2EmbPipeline,
    KandinskyV22PriorPipeline,
)

from tests import tiny_2_1, tiny_3
from tests.parity.conftest import Chain, pixels, running_chain
from tests.parity.families import generator
from tests.parity.test_flows import IMAGES, file, settings


@pytest.fixture
def prior(tiny_checkpoint: Path) -> KandinskyV22PriorPipeline:
    return KandinskyV22PriorPipeline.from_pretrained(tiny_checkpoint / "prior")


async def test_a_blend_with_a_text_beside_emb2emb(chain: Chain, tiny_checkpoint: Path) -> None:
    """Emb2Emb's `interpolate` hands `latents` to a `__call__` that takes none."""
    pipeline = KandinskyV22PriorEmb2EmbPipeline.from_pretrained(tiny_checkpoint / "prior")
    with pytest.raises(TypeError, match="latents"):
        pipeline.interpolate(["a red cat"], [1.0])
    [image] = await chain.ask("mix", ["a red cat"], [1], **settings())
    [same] = await chain.ask("text_to_image", "a red cat", **settings())
    assert np.abs(pixels(image) - pixels(same)).max() <= 1


async def test_one_step_of_the_prior_is_refused(
    chain: Chain, prior: KandinskyV22PriorPipeline
) -> None:
    """UnCLIP's timesteps divide by steps - 1."""
    with pytest.raises(ZeroDivisionError):
        prior("a red cat", num_inference_steps=1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await chain.ask("text_to_image", "a red cat", **settings(prior_steps=1))
    assert refused.value.details() == "prior.steps: 1 is outside 2 to 998"


async def test_negative_prompts_with_a_seed_an_image(
    chain: Chain, prior: KandinskyV22PriorPipeline
) -> None:
    """The reference doubles the rows of a negative prompt, but not the list of generators."""
    with pytest.raises(IndexError):
        prior(["a cat", "dog"], negative_prompt=["x", "y"], generator=[generator(), generator()])
    texts = {"prompts": ["a cat", "dog"], "negative_prompts": ["x", "y"]}
    together = await chain.ask("text_to_image", **texts, **settings())
    later = settings(seed=settings()["seed"] + 1)
    [second] = await chain.ask("text_to_image", "dog", negative_prompts="y", **later)
    assert np.abs(pixels(together[1]) - pixels(second)).max() <= 1


async def test_strength_that_leaves_no_step_is_refused(chain: Chain, tiny_checkpoint: Path) -> None:
    """The reference goes on with an empty loop and fails on a tensor of no elements."""
    pipeline = KandinskyV22Img2ImgPipeline.from_pretrained(tiny_checkpoint / "decoder")
    embed = torch.zeros(1, 32)
    with pytest.raises(RuntimeError):
        pipeline(embed, IMAGES[0], embed, height=64, width=64, strength=0.1, num_inference_steps=5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await chain.ask(
            "image_to_image", file(IMAGES[0]), "a red cat", strength=0.1, **settings(steps=5)
        )
    assert (
        refused.value.details() == "canvas.image.strength: 0.1 of 5 steps leaves none; raise either"
    )


@pytest.fixture
async def chain_2_1(tmp_path: Path) -> AsyncIterator[Chain]:
    folder = tiny_2_1.build(tmp_path, scheduler=tiny_2_1.ddpm_scheduler())
    tiny_2_1.write_catalog(folder)
    async with running_chain(folder) as running:
        yield running


async def test_two_images_from_one_bare_image_of_2_1(chain_2_1: Chain) -> None:
    """The combined pipeline repeats a list of images, but not one that is no list."""
    parts = {}
    for folder, prefix in (("prior", "prior_"), ("decoder", "")):
        index = KandinskyImg2ImgCombinedPipeline.load_config(chain_2_1.folder / folder)
        loaded = getattr(diffusers, index["_class_name"])
        components = loaded.from_pretrained(chain_2_1.folder / folder).components
        parts |= {f"{prefix}{name}": part for name, part in components.items()}
    combined = KandinskyImg2ImgCombinedPipeline(**parts)
    combined.set_progress_bar_config(disable=True)
    asked = {"height": 64, "width": 64, "num_inference_steps": 4, "prior_num_inference_steps": 3}
    with pytest.raises(ValueError, match="Unexpected latents shape"):
        combined("a red cat", IMAGES[0], num_images_per_prompt=2, **asked)
    images = await chain_2_1.ask(
        "image_to_image",
        file(IMAGES[0]),
        "a red cat",
        strength=0.5,
        **settings(width=64, images_per_prompt=2),
    )
    assert len(images) == 2
    assert np.abs(pixels(images[0]) - pixels(images[1])).max() > 5


def test_loras_of_kandinsky_3_cannot_be_loaded(tmp_path: Path) -> None:
    """Its pipelines have the loader, whose UNet has none: so they are not served either."""
    folder = tiny_3.build(tmp_path) / "kandinsky-3"
    pipeline = Kandinsky3Pipeline.from_pretrained(folder)
    layer = "unet.down_blocks.0.attentions.0.attention.to_q"
    weights = {f"{layer}.lora_A.weight": torch.zeros(2, 32)}
    weights[f"{layer}.lora_B.weight"] = torch.zeros(32, 2)
    with pytest.raises(AttributeError, match="load_lora_adapter"):
        pipeline.load_lora_weights(weights)
