"""On a GPU: the engine's image is the reference's, and the same in whatever company."""

import numpy as np
import pytest
import torch

from benchmarks.full_size.bare_side import BareSide, pipeline
from benchmarks.full_size.networks import REDUCED
from benchmarks.full_size.plan import EAGER, RUNTIMES
from benchmarks.full_size.side import Embeds
from tests.benchmarks.sameness import Apart, Sameness

PIXELS, STEPS = 64, 12
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
LEVELS = {torch.float32: 1, torch.bfloat16: 24}
"""Most by which a channel may differ: rounding of another batch size, over all steps."""


@pytest.fixture(autouse=True)
def full_precision() -> None:
    """float32 products as float32, on both sides."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("device", DEVICES)
def test_the_image_is_the_pipelines(device: str) -> None:
    networks = REDUCED.build(device)
    embeds = Embeds.random(32, networks.latents(1, PIXELS))
    reference = BareSide(pipeline(networks, EAGER), embeds, 4.0, 1).image(0, PIXELS, STEPS)
    ways = Sameness(networks, RUNTIMES["eager"], embeds, PIXELS, STEPS)
    apart = Apart.of(ways.images()["alone"], np.asarray(reference))
    assert apart.most <= 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", LEVELS, ids=str)
@pytest.mark.parametrize("runtime", ["eager", "compiled+graphs"])
def test_company_changes_nothing(device: str, dtype: torch.dtype, runtime: str) -> None:
    if device == "cpu" and dtype != torch.float32:
        pytest.skip("too slow on a CPU")
    if device == "cpu" and runtime != "eager":
        runtime = "compiled"  # a CPU has no graphs
    networks = REDUCED.build(device, dtype)
    embeds = Embeds.random(32, networks.latents(1, PIXELS))
    images = Sameness(networks, RUNTIMES[runtime], embeds, PIXELS, STEPS).images()
    found = {name: Apart.of(image, images["alone"]) for name, image in images.items()}
    print(device, dtype, runtime, found)
    for name in ("batched", "joined late", "moved"):
        assert found[name].most <= LEVELS[dtype], name
    assert found["another seed"].mean >= 5
