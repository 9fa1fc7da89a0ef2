"""An image of Kandinsky 3 is the same beside texts of other lengths, joined late, moved half-way.

The reference's is not: it pools each text over the padding of its batch.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_3
from tests.parity.company import join_late, move, share_forwards
from tests.parity.conftest import Chain, flow_request, pixels, running_chain


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_3.write_catalog(tiny_3.build(tmp_path_factory.mktemp("tiny-3")))


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    """Two replicas of each stage; the first is asked unless a test says otherwise."""
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


JOBS: dict[str, dict[str, Any]] = {
    "short": {"prompts": "dog", "seed": 1},
    "middle": {
        "prompts": "a red cat",
        "seed": 2,
        "steps": 12,
        "negative_prompts": "ugly and badly drawn",
    },
    "long": {
        "prompts": "a very large green bird that sings",
        "seed": 3,
        "steps": 10,
        "guidance_scale": 7.5,
    },
    "unguided": {"prompts": "a red cat", "seed": 4, "guidance_scale": 1.0},
}


async def ask(chain: Chain, name: str) -> np.ndarray:
    request = flow_request(
        "text_to_image", **{"steps": 6, "height": 64, "width": 128, **JOBS[name]}
    )
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def test_jobs_of_several_lengths_share_forwards(chain: Chain) -> None:
    await share_forwards(chain, ask, JOBS)
    assert len(chain.stages.decoder.forwards_with(*JOBS)) >= 4


async def test_a_late_joiner_of_another_length_changes_nothing(chain: Chain) -> None:
    joined = await join_late(chain, ask, "middle", "short", 3)
    assert (joined["short"], joined["middle"] >= 3) == (0, True)


async def test_a_job_moves_to_another_replica_half_way(chain: Chain) -> None:
    await move(chain, ask, "middle", 5)
