"""IP-Adapters of Stable Diffusion inpainting: as in diffusers, and each row its own images."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from kandinsky.client import ImagePrompt
from tests import tiny_ip_adapter, tiny_lora, tiny_sd_inpaint
from tests.parity.company import join_late, move, share_forwards
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_sd_inpaint import (
    IMAGE,
    MASK,
    Reference,
    assert_equal,
    inpainted,
    smooth_image,
)
from tests.tiny_ip_adapter import EMBED, HIDDEN, PATCHES

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pickled": {"form": "bin"},
    "plus": {"reads": "states"},
    "plus-pickled": {"reads": "states", "form": "bin"},
    "full": {"reads": "all"},
}
FIRST, SECOND, THIRD = (Image.fromarray(smooth_image(48, 48, seed)) for seed in (5, 6, 7))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("ip"))
    catalog = tiny_sd_inpaint.write_catalog(folder)
    tiny_ip_adapter.build_image_encoder(folder / "prompts")
    for seed, (name, form) in enumerate(FORMS.items()):
        tiny_ip_adapter.write(folder / "adapters", folder / "sd-inpaint", name, seed, **form)
    tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "lora", 3)
    tiny_sd_inpaint.declare_adapters(folder, "prompts")
    return catalog


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


def shown(folder: Path, scales: dict[str, float], lora: float | None = None) -> Reference:
    """The pipeline with IP-Adapters."""
    reference = Reference(folder)
    pipeline = reference.pipeline
    pipeline.image_encoder = CLIPVisionModelWithProjection.from_pretrained(
        folder / "prompts" / "image_encoder"
    )
    side = tiny_ip_adapter.SIDE
    pipeline.feature_extractor = CLIPImageProcessor(size=side, crop_size=side)
    files = yaml.safe_load((folder / "adapters" / "manifest.yaml").read_text())
    if lora is not None:
        pipeline.load_lora_weights(
            folder / "adapters", weight_name="lora.safetensors", adapter_name="lora"
        )
        pipeline.set_adapters(["lora"], [lora])
    pipeline.load_ip_adapter(
        folder / "adapters", "", [files[name]["file"] for name in scales], None
    )
    pipeline.set_ip_adapter_scale([*scales.values()])
    return reference


CASES: dict[str, dict[str, tuple[Any, float]]] = {
    **{name: {name: (FIRST, 1.0)} for name in FORMS},
    "half of it": {"plain": (FIRST, 0.5)},
    "several images": {"plain": ([FIRST, SECOND, THIRD], 0.7)},
    "several images as states": {"plus": ([FIRST, SECOND], 0.7)},
    "two": {"plain": (FIRST, 0.6), "plus": (SECOND, 0.4)},
}


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0], ids=["guided", "unguided"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_it_equals_the_reference(
    chain: Chain, checkpoint: Path, case: dict[str, tuple[Any, float]], guidance_scale: float
) -> None:
    adapters = {name: ImagePrompt(images, scale) for name, (images, scale) in case.items()}
    options = {"guidance_scale": guidance_scale}
    [actual] = await inpainted(chain, adapters=adapters, **options)
    reference = shown(checkpoint, {name: scale for name, (_, scale) in case.items()})
    images = [images for images, _ in case.values()]
    assert_equal(actual, reference.draw(ip_adapter_image=images, **options))
    [plain] = await inpainted(chain, **options)
    assert np.abs(actual - plain).max() > 8


async def test_none_of_it_is_nothing(chain: Chain) -> None:
    [actual] = await inpainted(chain, adapters={"plain": ImagePrompt(FIRST, 0.0)})
    [plain] = await inpainted(chain)
    assert np.abs(actual - plain).max() <= 1


async def test_embeddings_that_the_caller_made(chain: Chain, checkpoint: Path) -> None:
    torch.manual_seed(1)
    embeds, away = torch.randn(2, EMBED), torch.randn(2, EMBED)
    prompt = ImagePrompt(scale=0.8, image_embeds=embeds, negative_image_embeds=away)
    [actual] = await inpainted(chain, adapters={"plain": prompt})
    given = torch.stack([away, embeds])
    expected = shown(checkpoint, {"plain": 0.8}).draw(ip_adapter_image_embeds=[given])
    assert_equal(actual, expected)


async def test_states_that_the_caller_made(chain: Chain, checkpoint: Path) -> None:
    torch.manual_seed(1)
    states, away = torch.randn(2, PATCHES, HIDDEN), torch.randn(2, PATCHES, HIDDEN)
    prompt = ImagePrompt(image_states=states, negative_image_states=away)
    [actual] = await inpainted(chain, adapters={"plus": prompt})
    given = torch.stack([away, states])
    expected = shown(checkpoint, {"plus": 1.0}).draw(ip_adapter_image_embeds=[given])
    assert_equal(actual, expected)


async def test_one_negative_is_for_all(chain: Chain) -> None:
    torch.manual_seed(1)
    embeds, away = torch.randn(2, EMBED), torch.randn(1, EMBED)
    for_all, each = (
        ImagePrompt(image_embeds=embeds, negative_image_embeds=negative)
        for negative in (away, away.expand(2, -1))
    )
    [actual] = await inpainted(chain, adapters={"plain": for_all})
    [expected] = await inpainted(chain, adapters={"plain": each})
    np.testing.assert_array_equal(actual, expected)


async def test_beside_a_lora(chain: Chain, checkpoint: Path) -> None:
    adapters = {"lora": 0.5, "plain": ImagePrompt(FIRST, 0.7)}
    [actual] = await inpainted(chain, adapters=adapters)
    reference = shown(checkpoint, {"plain": 0.7}, lora=0.5)
    assert_equal(actual, reference.draw(ip_adapter_image=[FIRST]))


JOBS: dict[str, dict[str, Any]] = {
    "no image": {},
    "one": {"adapters": {"plain": ImagePrompt(FIRST)}},
    "less of another": {"adapters": {"plain": ImagePrompt(SECOND, 0.5)}, "steps": 9},
    "by another adapter": {"adapters": {"plus": ImagePrompt(FIRST, 0.8)}, "guidance_scale": 3.0},
    "two images": {"adapters": {"plain": ImagePrompt([FIRST, SECOND])}},
    "a LoRA": {"adapters": {"lora": 1.0}},
}
TOGETHER = ("one", "less of another", "by another adapter")


async def ask(chain: Chain, name: str) -> np.ndarray:
    options = {"steps": 12, "height": 64, "width": 128, "seed": 2, **JOBS[name]}
    request = flow_request("inpaint", IMAGE, MASK, "dog", **options)
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def test_rows_with_different_images_share_forwards(chain: Chain) -> None:
    await share_forwards(chain, ask, JOBS)
    assert len(chain.stages.decoder.forwards_with(*TOGETHER)) >= 4


async def test_a_late_joiner_changes_nothing(chain: Chain) -> None:
    assert await join_late(chain, ask, "one", "less of another", 5)


async def test_its_images_move_with_a_job(chain: Chain) -> None:
    await move(chain, ask, "one", 5)
