"""An image of Stable Diffusion inpainting is the same in any company, and wherever it is made."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_sd_inpaint
from tests.parity.company import join_late, move, share_forwards
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "nine channels": {"channels": 9},
    "four channels": {"channels": 4},
    "a decoder that sees the image": {"asymmetric": True},
}


@pytest.fixture(scope="module", params=CHECKPOINTS.values(), ids=CHECKPOINTS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd-inpaint")
    return tiny_sd_inpaint.write_catalog(tiny_sd_inpaint.build(folder, **request.param))


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
    await share_forwards(chain, ask, JOBS)
    assert len(chain.stages.decoder.forwards_with(*JOBS)) >= 4


async def test_a_late_joiner_changes_nothing(chain: Chain) -> None:
    assert await join_late(chain, ask, "from the image", "whole", 5)


@pytest.mark.parametrize("name", ["from the image", "unguided"])
async def test_a_job_moves_to_another_replica_half_way(chain: Chain, name: str) -> None:
    """It samples its image's latents again, from the same generator."""
    await move(chain, ask, name, 5)
