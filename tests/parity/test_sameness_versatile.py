"""An image of Versatile Diffusion is the same beside those of other guides, late and moved."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kandinsky.client import guides
from kandinsky.v1 import guide_pb2
from tests import tiny_versatile
from tests.parity.company import join_late, move, share_forwards
from tests.parity.conftest import Chain, flow_request, pixels, running_chain


def shown(seed: int) -> np.ndarray:
    """uint8 [80, 96, 3]: squares of colours."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return values.repeat(16, 0).repeat(16, 1)


def both(seed: int, share: float) -> guide_pb2.Guide:
    return guides.text_and_image("a red cat", shown(seed), text_to_image_strength=share)


JOBS: dict[str, tuple[Callable[[], guide_pb2.Guide], dict[str, Any]]] = {
    "text": (lambda: guides.text("dog"), {"steps": 8, "negative_prompts": "blue"}),
    "image": (lambda: guides.image(shown(1)), {"steps": 12, "guidance_scale": 3.0}),
    "mostly text": (lambda: both(2, 0.8), {"steps": 10, "scheduler": "ddim", "eta": 0.5}),
    "mostly image": (lambda: both(3, 0.1), {"steps": 9}),
    "unguided": (lambda: both(4, 0.5), {"steps": 8, "guidance_scale": 1.0}),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_versatile.build(tmp_path_factory.mktemp("tiny-versatile"))
    return tiny_versatile.write_catalog(folder)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    """Two replicas of each stage; the first is asked unless a test says otherwise."""
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


async def ask(chain: Chain, name: str) -> np.ndarray:
    guide, options = JOBS[name]
    seed = list(JOBS).index(name)
    request = flow_request("generate", guide(), seed=seed, height=64, width=64, **options)
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def test_jobs_of_every_guide_and_share_are_in_one_forward(chain: Chain) -> None:
    await share_forwards(chain, ask, JOBS)
    assert len(chain.stages.decoder.forwards_with(*JOBS)) >= 6


async def test_a_late_joiner_of_another_guide_changes_nothing(chain: Chain) -> None:
    assert await join_late(chain, ask, "image", "text", 3)


@pytest.mark.parametrize("name", ["image", "mostly text"])
async def test_a_job_moves_to_another_replica_half_way(chain: Chain, name: str) -> None:
    """With PNDM's own state, and with noise at every step."""
    await move(chain, ask, name, 5)
