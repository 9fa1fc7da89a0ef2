"""A checkpoint in the layout of the hub's files is served by a user's YAML, and nothing else."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests import published, tiny
from tests.parity.conftest import Chain, pixels, running_chain

SEED = 3


async def image(chain: Chain) -> np.ndarray:
    [one] = await chain.ask("text_to_image", "a red cat", negative_prompts="dog", seed=SEED)
    return pixels(one)


@pytest.fixture
def aged_checkpoint(tmp_path: Path) -> Path:
    tiny.write_catalog(tiny.build(tmp_path))
    published.age(tmp_path)
    assert (tmp_path / "decoder/movq/diffusion_pytorch_model.bin").exists()
    assert not (tmp_path / "prior/tokenizer/tokenizer.json").exists()
    return tmp_path


async def test_old_files_make_the_same_image(chain: Chain, aged_checkpoint: Path) -> None:
    async with running_chain(aged_checkpoint) as aged:
        assert np.abs(await image(aged) - await image(chain)).max() <= 1


@pytest.fixture
def varied_checkpoint(tmp_path: Path) -> Path:
    entry = re.sub(r"folder: [\w-]+", r"\g<0>, variant: fp16", tiny.CATALOG_ENTRY)
    tiny.write_catalog(tiny.build(tmp_path), entry=entry)
    for file in tmp_path.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    return tmp_path


async def test_files_of_a_variant_make_the_same_image(
    chain: Chain, varied_checkpoint: Path
) -> None:
    async with running_chain(varied_checkpoint) as varied:
        assert np.abs(await image(varied) - await image(chain)).max() <= 1


async def test_other_weights_make_another_image(chain: Chain, tmp_path: Path) -> None:
    tiny.write_catalog(tiny.build(tmp_path, seed=1))
    async with running_chain(tmp_path) as other:
        assert np.abs(await image(other) - await image(chain)).mean() >= 5
