"""The same seed makes the same image, whatever runs beside it and wherever: five promises a flow.

Alone, batched, joined late, neighbour cancelled, moved to another replica half-way; for every flow
of Kandinsky 2.2 and of 2.1. Every test reads the decoder's counters, and fails unless the rows it
speaks of shared forwards.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kandinsky.v1 import generation_pb2 as generation
from tests import tiny_2_1
from tests.parity.conftest import Chain, pixels, running_chain
from tests.parity.every_flow import FLOWS, Flow, Running

LEVELS = 1
"""Most by which a channel may differ: rounding of another batch size."""

FLOWS_2_2 = [Flow("2.2", name) for name in FLOWS]
# With noise at every step of DDIM, so that a job's generator matters there too.
FLOWS_2_1 = [Flow("2.1", name, {"eta": 0.5}) for name in FLOWS if name != "control"]
# Fewer rows and fewer passes.
SAVING: dict[str, Any] = {"step_cache_interval": 3, "guidance_interval": (0.3, 0.9)}
FLOWS_SAVING = [
    Flow("2.2", "text_to_image", SAVING),
    Flow("2.2", "inpaint", SAVING),
    Flow("2.2", "control", SAVING),
    Flow("2.1", "image_to_image", {**SAVING, "eta": 0.5}),
]
BOTH_FAMILIES = [FLOWS_2_2[0], FLOWS_2_1[0]]
Draw = Callable[..., Running]


@pytest.fixture(params=[*FLOWS_2_2, *FLOWS_2_1, *FLOWS_SAVING], ids=str)
def flow(request: pytest.FixtureRequest) -> Flow:
    return request.param


@pytest.fixture(scope="module")
def tiny_2_1_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float64: in float32 DDIM, which does not clip here, amplifies rounding."""
    folder = tiny_2_1.build(tmp_path_factory.mktemp("tiny-2-1"))
    return tiny_2_1.write_catalog(folder, dtype="float64")


@pytest.fixture
async def chain(
    flow: Flow, tiny_checkpoint: Path, tiny_2_1_checkpoint: Path
) -> AsyncIterator[Chain]:
    """Two replicas of each stage; the first is asked unless a test says otherwise."""
    folder = {"2.2": tiny_checkpoint, "2.1": tiny_2_1_checkpoint}[flow.family]
    sharing = ["tiny-control"] if flow.name == "control" else []
    async with running_chain(folder, *sharing, replicas=2) as running:
        yield running


@pytest.fixture
def draw(chain: Chain, flow: Flow) -> Draw:
    """Starts a request of the flow, named so in the engines' counters."""
    return lambda name, **settings: Running(chain, name, flow, **settings)


async def alone(chain: Chain, draw: Draw, **settings: Any) -> np.ndarray:
    image = await draw("alone", **settings).image()
    if image.index == 0:  # frames of one request are company
        assert image.decoder_stats.shared_forwards == 0
    return pixels(image)


def assert_same(image: generation.GeneratedImage, expected: np.ndarray) -> None:
    assert np.abs(pixels(image) - expected).max() <= LEVELS


async def test_batched_with_other_seeds_step_counts_and_guidance(
    chain: Chain, draw: Draw, flow: Flow
) -> None:
    recipes: dict[str, dict[str, Any]] = {
        "guided": {"seed": 1},
        "unguided": {"seed": 2, "steps": 12, "guidance_scale": 1.0},
        "stronger": {"seed": 3, "steps": 10, "guidance_scale": 7.5},
    }
    expected = {name: await alone(chain, draw, **recipe) for name, recipe in recipes.items()}
    decoder = chain.stages.decoder
    decoder.hold()
    running = {name: draw(name, **recipe) for name, recipe in recipes.items()}
    for name in running:
        await decoder.arrival(name, flow.jobs)
    decoder.release()
    for name, one in running.items():
        image = await one.image()
        assert_same(image, expected[name])
        assert image.decoder_stats.shared_forwards > 0
    assert len(decoder.forwards_with(*recipes)) >= 4
    other_seed = await alone(chain, draw, seed=99)
    assert np.abs(other_seed - expected["guided"]).mean() >= 5


async def test_joined_while_another_was_between_its_first_and_last_step(
    chain: Chain, draw: Draw, flow: Flow
) -> None:
    expected = await alone(chain, draw, seed=1)
    expected_early = await alone(chain, draw, seed=5, steps=14)
    decoder = chain.stages.decoder
    early = draw("early", seed=5, steps=14)
    await decoder.held_at("early", 3)
    late = draw("late", seed=1)
    await decoder.arrival("late", flow.jobs)
    decoder.release()
    assert_same(await late.image(), expected)
    assert_same(await early.image(), expected_early)
    joined = decoder.forwards_with("early", "late")[0]
    # A whole pass that is not due in the other is a forward of its own.
    assert joined["late"] <= flow.apart
    assert 3 <= joined["early"] <= 4


async def test_neighbour_cancelled(chain: Chain, draw: Draw, flow: Flow) -> None:
    expected = await alone(chain, draw, seed=1)
    decoder = chain.stages.decoder
    decoder.hold()
    neighbour, kept = draw("neighbour", seed=5, steps=14), draw("kept", seed=1)
    await decoder.arrival("neighbour", flow.jobs)
    await decoder.arrival("kept", flow.jobs)
    await decoder.held_at("kept", 3)
    neighbour.cancel()
    await decoder.departure("neighbour", flow.jobs)
    decoder.release()
    assert_same(await kept.image(), expected)
    together = decoder.forwards_with("neighbour", "kept")
    assert 3 - flow.apart <= together[-1]["kept"] <= 4, "it stayed for more than the step under way"
    assert decoder.counters.abandoned >= 1
    assert max(leave.steps for leave in decoder.counters.leaves) <= 1
    with pytest.raises(asyncio.CancelledError):
        await neighbour.image()


async def test_moved_to_another_replica_half_way(chain: Chain, draw: Draw, flow: Flow) -> None:
    expected = {seed: await alone(chain, draw, seed=seed, steps=14) for seed in (1, 2)}
    first, second = chain.stages.decoders
    first.hold()
    second.hold()
    running = {seed: draw(f"moved {seed}", seed=seed, steps=14) for seed in (1, 2)}
    for seed in running:
        await first.arrival(f"moved {seed}", flow.jobs)
    await first.held_at("moved 1", 3)
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    for seed in running:
        await second.arrival(f"moved {seed}", flow.jobs)
    second.release()
    for seed, one in running.items():
        image = await one.image()
        assert_same(image, expected[seed])
        # The pass that encodes an image is taken again where every step needs its result.
        redone = int(flow.encodes)
        assert image.decoder_stats.resumes == 1
        assert redone <= image.decoder_stats.steps_redone <= redone + flow.most_redone
    assert 3 <= first.forwards_with("moved 1", "moved 2")[-1]["moved 1"] <= 4
    assert second.forwards_with("moved 1", "moved 2")[0]["moved 1"] >= 3
    assert second.counters.resumed == first.counters.drained >= 2


@pytest.mark.parametrize("flow", BOTH_FAMILIES, ids=str, indirect=True)
async def test_a_prior_run_moves_too(chain: Chain, draw: Draw) -> None:
    expected = await alone(chain, draw, seed=1, prior_steps=9)
    first, second = chain.stages.priors
    moved = draw("moved", seed=1, prior_steps=9)
    await first.held_at("moved", 3)
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    image = await moved.image()
    assert_same(image, expected)
    assert second.counters.resumed >= 1
    assert image.prior_stats.resumes == 1


@pytest.mark.parametrize("flow", BOTH_FAMILIES, ids=str, indirect=True)
async def test_images_of_one_request_share_forwards(chain: Chain, draw: Draw, flow: Flow) -> None:
    options = {"negative_prompts": "dog", "steps": 8, "prior_steps": 3, **flow.settings}
    images = await chain.ask("text_to_image", "a red cat", seed=7, images_per_prompt=3, **options)
    for index, image in enumerate(images):
        assert_same(image, await alone(chain, draw, seed=7 + index))
        assert image.decoder_stats.shared_forwards > 0
    assert np.abs(pixels(images[0]) - pixels(images[1])).mean() >= 5
