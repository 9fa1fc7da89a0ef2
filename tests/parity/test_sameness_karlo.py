"""An image of Karlo is the same beside others, joined late, and moved in each of its loops."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_karlo
from tests.parity.company import join_late, move, share_forwards
from tests.parity.conftest import Chain, flow_request, pixels, running_chain

JOBS: dict[str, dict[str, Any]] = {
    "short": {"prompts": "dog", "seed": 1, "steps": 8, "super_resolution_steps": 6},
    "long": {
        "prompts": "a very large green bird that sings",
        "seed": 2,
        "steps": 12,
        "prior_steps": 5,
        "super_resolution_steps": 9,
        "guidance_scale": 3.0,
    },
    "steered": {
        "prompts": "a red cat",
        "seed": 3,
        "steps": 10,
        "super_resolution_steps": 7,
        "negative_prompts": "blue",
        "prior_guidance_scale": 7.0,
    },
    "unguided": {
        "prompts": "a red cat",
        "seed": 4,
        "steps": 8,
        "super_resolution_steps": 8,
        "guidance_scale": 1.0,
        "prior_guidance_scale": 1.0,
    },
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_karlo.build(tmp_path_factory.mktemp("tiny-karlo"))
    return tiny_karlo.write_catalog(folder, dtype="float64")


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    """Two replicas of each stage; the first is asked unless a test says otherwise."""
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


async def ask(chain: Chain, name: str) -> np.ndarray:
    request = flow_request("text_to_image", **JOBS[name])
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def test_jobs_of_other_steps_and_guidance_share_forwards_of_each_network(
    chain: Chain,
) -> None:
    await share_forwards(chain, ask, JOBS)
    trace = chain.stages.decoder.counters.trace
    shared = {each.network for each in trace if len(each.jobs) > 1}
    assert {"unet", "super-resolution"} <= shared


async def test_a_late_joiner_changes_nothing(chain: Chain) -> None:
    assert await join_late(chain, ask, "long", "short", 3)


@pytest.mark.parametrize(("phase", "step"), [("denoise", 5), ("super_resolution", 4)])
async def test_a_job_goes_on_elsewhere_from_either_loop(
    chain: Chain, phase: str, step: int
) -> None:
    await move(chain, ask, "steered", step, phase)
    trace = chain.stages.decoders[1].counters.trace
    again = [each for each in trace if each.network == "unet"]
    assert len(again) == (0 if phase == "super_resolution" else 10 - step - 1)


async def test_the_last_step_of_super_resolution_is_another_networks(chain: Chain) -> None:
    await ask(chain, "short")
    networks = [forward.network for forward in chain.stages.decoder.counters.trace]
    assert networks == ["unet"] * 8 + ["super-resolution"] * 5 + ["super-resolution, last"]
