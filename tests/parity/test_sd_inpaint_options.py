"""Further options of Stable Diffusion inpainting: schedulers, given levels and latents, FreeU."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel

from kandinsky.catalog.schedulers import SCHEDULERS
from kandinsky.client import canvases, guides
from tests import tiny_sd_inpaint
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_sd_inpaint import (
    IMAGE,
    MASK,
    PROMPT,
    Reference,
    assert_equal,
    inpainted,
    settings,
)


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


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_schedulers(
    chain: Chain, reference: Reference, scheduler: str, strength: float
) -> None:
    if scheduler == "pndm" and strength < 1:
        pytest.skip("the reference takes its second step from the wrong level")
    [actual] = await inpainted(chain, scheduler=scheduler, strength=strength)
    assert_equal(actual, reference.draw(scheduler=scheduler, strength=strength))


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("scheduler", ["ddpm", "dpm-solver++", "euler", "lcm"])
async def test_given_timesteps(
    chain: Chain, reference: Reference, scheduler: str, strength: float
) -> None:
    given = [979, 739, 499, 259, 19]
    options: dict[str, Any] = {"timesteps": given, "scheduler": scheduler, "strength": strength}
    if scheduler == "lcm":
        options["timesteps"] = given = [999, 759, 499, 259, 19]
    [actual] = await inpainted(chain, steps=None, **options)
    assert_equal(actual, reference.draw(num_inference_steps=50, **options))


@pytest.mark.parametrize("strength", [1.0, 0.6])
async def test_given_sigmas(chain: Chain, reference: Reference, strength: float) -> None:
    options = {"sigmas": [13.0, 7.5, 3.25, 1.0, 0.25], "scheduler": "euler", "strength": strength}
    [actual] = await inpainted(chain, steps=None, **options)
    assert_equal(actual, reference.draw(num_inference_steps=50, **options))


async def test_masked_image_latents(chain: Chain, reference: Reference) -> None:
    masked = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(8))
    canvas = canvases.inpaint(MASK, IMAGE, strength=0.8, masked_image_latents=masked.numpy())
    [image] = await chain.ask("generate", guides.text(PROMPT), canvas, **settings(eta=0.5))
    expected = reference.draw(masked_image_latents=masked, strength=0.8, eta=0.5)
    assert_equal(pixels(image), expected)


async def test_a_unet_that_reads_the_guidance_scale(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """As LCM's: one row a job, whatever the scale."""
    folder = tmp_path_factory.mktemp("sd-lcm")
    tiny_sd_inpaint.build(folder, time_cond_proj_dim=32)
    reference = Reference(tiny_sd_inpaint.write_catalog(folder))
    drawn = []
    async with running_chain(folder) as chain:
        for scale in (8.5, 1.5, 1.0):
            [actual] = await inpainted(chain, scheduler="lcm", guidance_scale=scale)
            assert_equal(actual, reference.draw(scheduler="lcm", guidance_scale=scale))
            drawn.append(actual)
        assert chain.stages.decoder.counters.forwards == chain.stages.decoder.counters.rows
    assert np.abs(drawn[0] - drawn[1]).max() > 10


@pytest.mark.parametrize("clip_skip", [1, 2])
async def test_clip_skip(
    chain: Chain, reference: Reference, monkeypatch: pytest.MonkeyPatch, clip_skip: int
) -> None:
    """The reference fails: it looks for `text_model`, which transformers 5 has not any more.

    What guidance steers away from is encoded by all layers, as the reference would have it.
    """
    options = {"negative_prompts": ["ugly"], "clip_skip": clip_skip}
    [actual] = await inpainted(chain, **options)
    with pytest.raises(AttributeError, match="text_model"):
        reference.draw(negative_prompt="ugly", clip_skip=clip_skip)
    monkeypatch.setattr(
        CLIPTextModel, "text_model", property(lambda encoder: encoder), raising=False
    )
    assert_equal(actual, reference.draw(negative_prompt="ugly", clip_skip=clip_skip))
    [plain] = await inpainted(chain, negative_prompts=["ugly"])
    assert np.abs(actual - plain).max() > 10


FREE_U = {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2}


async def test_free_u(chain: Chain, reference: Reference) -> None:
    """On for its own job alone, beside another without it."""
    requests = [
        flow_request("inpaint", IMAGE, MASK, PROMPT, **settings(free_u=free_u))
        for free_u in (FREE_U, None)
    ]
    answers = await asyncio.gather(*map(chain.stub.GenerateImages, requests))
    reweighted, plain = (pixels(answer.images[0]) for answer in answers)
    assert_equal(plain, reference.draw())
    reference.pipeline.enable_freeu(**FREE_U)
    assert_equal(reweighted, reference.draw())
    assert np.abs(reweighted - plain).max() > 10
