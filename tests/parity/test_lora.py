"""LoRAs of Stable Diffusion inpainting: as in diffusers, and each row its own in any company."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel

from tests import tiny_lora, tiny_sd_inpaint
from tests.parity.company import join_late, move, share_forwards
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK, Reference, assert_equal, inpainted

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "alpha": {"alpha": 2.0},
    "high-rank": {"rank": 7, "text": False},
    "kohya": {"form": "kohya", "alpha": 3.0},
    "peft": {"form": "peft", "alpha": 6.0},
    **{f"rank-{rank}": {"rank": rank} for rank in (1, 2, 3)},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("lora"))
    catalog = tiny_sd_inpaint.write_catalog(folder)
    for seed, (name, form) in enumerate(FORMS.items()):
        tiny_lora.write(folder / "adapters", folder / "sd-inpaint", name, seed, **form)
    tiny_sd_inpaint.declare_adapters(folder)
    return catalog


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


def adapted(folder: Path, named: dict[str, float]) -> Reference:
    """The pipeline with adapters."""
    reference = Reference(folder)
    pipeline = reference.pipeline
    for name in named:
        if name == "peft":
            peft = PeftModel.from_pretrained(pipeline.unet, folder / "adapters" / name, name)
            pipeline.unet = peft.base_model.model
        else:
            pipeline.load_lora_weights(
                folder / "adapters", weight_name=f"{name}.safetensors", adapter_name=name
            )
    if "peft" not in named:
        pipeline.set_adapters(list(named), list(named.values()))
    return reference


CASES: dict[str, dict[str, float]] = {
    **{f"{name}, all of it": {name: 1.0} for name in FORMS},
    "half of one": {"plain": 0.5},
    "the other way": {"alpha": -0.75},
    "two": {"plain": 0.6, "kohya": 0.5},
    "three of different ranks": {"plain": 0.4, "high-rank": 0.7, "alpha": 0.5},
}


@pytest.mark.parametrize("named", CASES.values(), ids=CASES)
async def test_it_equals_the_reference(
    chain: Chain, checkpoint: Path, named: dict[str, float]
) -> None:
    [actual] = await inpainted(chain, adapters=named, negative_prompts="ugly")
    assert_equal(actual, adapted(checkpoint, named).draw(negative_prompt="ugly"))
    [plain] = await inpainted(chain, negative_prompts="ugly")
    assert np.abs(actual - plain).max() > 8


async def test_clip_skip_beside_a_lora(chain: Chain, checkpoint: Path) -> None:
    [actual] = await inpainted(chain, adapters={"plain": 1.0}, clip_skip=1)
    [without] = await inpainted(chain, adapters={"plain": 1.0})
    assert np.abs(actual - without).max() > 1


JOBS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one": {"adapters": {"plain": 1.0}},
    "another": {"adapters": {"alpha": 1.0}, "guidance_scale": 3.0},
    "less of it": {"adapters": {"alpha": 0.5}, "steps": 9},
    "of another form": {"adapters": ["kohya"], "seed": 5},
    "reweighted": {
        "adapters": ["plain"],
        "free_u": {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2},
    },
    "two": {"adapters": {"plain": 0.5, "high-rank": 0.5}},
}
TOGETHER = ("one", "another", "less of it", "of another form")


async def ask(chain: Chain, name: str) -> np.ndarray:
    options = {"steps": 12, "height": 64, "width": 128, "seed": 2, **JOBS[name]}
    request = flow_request("inpaint", IMAGE, MASK, "dog", **options)
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def test_rows_with_different_loras_share_forwards(chain: Chain) -> None:
    await share_forwards(chain, ask, JOBS)
    assert len(chain.stages.decoder.forwards_with(*TOGETHER)) >= 4


async def test_eight_jobs_with_eight_loras_share_forwards(chain: Chain) -> None:
    async def ask_with(chain: Chain, name: str) -> np.ndarray:
        options = {"steps": 12, "height": 64, "width": 128, "seed": 2, "adapters": [name]}
        request = flow_request("inpaint", IMAGE, MASK, "dog", **options)
        answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
        return pixels(answer.images[0])

    await share_forwards(chain, ask_with, FORMS)
    assert len(FORMS) == 8
    assert len(chain.stages.decoder.forwards_with(*FORMS)) >= 4  # images are encoded in turn


async def test_a_late_joiner_changes_nothing(chain: Chain) -> None:
    assert await join_late(chain, ask, "one", "another", 5)


async def test_a_lora_moves_with_its_job(chain: Chain) -> None:
    await move(chain, ask, "another", 5)
