"""An image of Stable Diffusion inpainting is the same in any company, and wherever it is made."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_sd_inpaint
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK


@pytest.fixture(scope="module", params=[9, 4], ids=["nine channels", "four channels"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"sd-{request.param}")
    return tiny_sd_inpaint.write_catalog(tiny_sd_inpaint.build(folder, channels=request.param))


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    """Two replicas of each stage; the first is asked unless a test says otherwise."""
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


JOBS: dict[str, dict[str, Any]] = {
    "whole": {"prompts": "dog", "seed": 1},
    "from the image": {"prompts": "a red cat", "seed": 2, "steps": 16, "strength": 0.8, "eta": 1.0},
    "strongly guided": {"prompts": "a bird", "seed": 3, "steps": 13, "guidance_scale": 12.0},
    "unguided": {"prompts": "a red cat", "seed": 4, "steps": 14, "guidance_scale": 1.0, "eta": 0.5},
    "other mask": {"prompts": "dog", "seed": 5, "mask": 255 - MASK, "negative_prompts": "ugly"},
}


async def ask(chain: Chain, name: str) -> np.ndarray:
    options = {"steps": 12, "height": 64, "width": 128, **JOBS[name]}
    mask, prompts = options.pop("mask", MASK), options.pop("prompts")
    request = flow_request("inpaint", IMAGE, mask, prompts, **options)
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def test_jobs_of_different_settings_share_forwards(chain: Chain) -> None:
    expected = {name: await ask(chain, name) for name in JOBS}
    decoder = chain.stages.decoder
    decoder.hold()
    running = {name: asyncio.create_task(ask(chain, name)) for name in JOBS}
    for name in running:
        await decoder.arrival(name, 2)  # it came alone before
    decoder.release()
    for name, task in running.items():
        assert np.abs(await task - expected[name]).max() <= 1
    assert len(decoder.forwards_with(*JOBS)) >= 4


async def test_a_late_joiner_changes_nothing(chain: Chain) -> None:
    expected = {name: await ask(chain, name) for name in ("from the image", "whole")}
    decoder = chain.stages.decoder
    early = asyncio.create_task(ask(chain, "from the image"))
    await decoder.held_at("from the image", 5)
    late = asyncio.create_task(ask(chain, "whole"))
    await decoder.arrival("whole", 2)
    decoder.release()
    assert np.abs(await late - expected["whole"]).max() <= 1
    assert np.abs(await early - expected["from the image"]).max() <= 1
    assert decoder.forwards_with("from the image", "whole")


@pytest.mark.parametrize("name", ["from the image", "unguided"])
async def test_a_job_moves_to_another_replica_half_way(chain: Chain, name: str) -> None:
    """It samples its image's latents again, from the same generator."""
    expected = await ask(chain, name)
    first, second = chain.stages.decoders
    moved = asyncio.create_task(ask(chain, name))
    await first.held_at(name, 5)
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    assert np.abs(await moved - expected).max() <= 1
    assert (first.counters.drained, second.counters.resumed) == (1, 1)
