"""An image of Karlo is the same beside others, joined late, and moved in each of its loops."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_karlo
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
    expected = {name: await ask(chain, name) for name in JOBS}
    decoder = chain.stages.decoder
    decoder.counters.trace.clear()
    decoder.hold()
    running = {name: asyncio.create_task(ask(chain, name)) for name in JOBS}
    for name in running:
        await decoder.arrival(name, 2)  # it came alone before
    decoder.release()
    for name, task in running.items():
        assert np.abs(await task - expected[name]).max() <= 1
    shared = {each.network for each in decoder.counters.trace if len(each.jobs) > 1}
    assert {"unet", "super-resolution"} <= shared


async def test_a_late_joiner_changes_nothing(chain: Chain) -> None:
    expected = {name: await ask(chain, name) for name in ("long", "short")}
    decoder = chain.stages.decoder
    early = asyncio.create_task(ask(chain, "long"))
    await decoder.held_at("long", 3)
    late = asyncio.create_task(ask(chain, "short"))
    await decoder.arrival("short", 2)
    decoder.release()
    assert np.abs(await late - expected["short"]).max() <= 1
    assert np.abs(await early - expected["long"]).max() <= 1


@pytest.mark.parametrize(("phase", "step"), [("denoise", 5), ("super_resolution", 4)])
async def test_a_job_goes_on_elsewhere_from_either_loop(
    chain: Chain, phase: str, step: int
) -> None:
    expected = await ask(chain, "steered")
    first, second = chain.stages.decoders
    moved = asyncio.create_task(ask(chain, "steered"))
    await first.held_at("steered", step, phase)
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    assert np.abs(await moved - expected).max() <= 1
    assert (first.counters.drained, second.counters.resumed) == (1, 1)
    again = [each for each in second.counters.trace if each.network == "unet"]
    assert len(again) == (0 if phase == "super_resolution" else 10 - step - 1)


async def test_the_last_step_of_super_resolution_is_another_networks(chain: Chain) -> None:
    await ask(chain, "short")
    networks = [forward.network for forward in chain.stages.decoder.counters.trace]
    assert networks == ["unet"] * 8 + ["super-resolution"] * 5 + ["super-resolution, last"]
