"""What is wrong with what an IP-Adapter shows is refused by its path."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky.client import ImagePrompt, Latents
from kandinsky.wire.errors import Reason, from_rpc_error
from tests import tiny_ip_adapter, tiny_lora, tiny_sd_inpaint
from tests.parity.conftest import Chain, running_chain
from tests.parity.test_sd_inpaint import IMAGE, inpainted
from tests.tiny_ip_adapter import EMBED, HIDDEN, PATCHES


def build(folder: Path, *, embed: int | None = EMBED) -> Path:
    """A catalog; `embed` is the width of its image encoder's embeddings, None for no encoder."""
    tiny_sd_inpaint.build(folder)
    catalog = tiny_sd_inpaint.write_catalog(folder)
    tiny_ip_adapter.write(folder / "adapters", folder / "sd-inpaint", "plain", 0)
    tiny_ip_adapter.write(folder / "adapters", folder / "sd-inpaint", "plus", 1, reads="states")
    tiny_ip_adapter.write(folder / "adapters", folder / "sd-inpaint", "full", 3, reads="all")
    tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "lora", 2)
    if embed is not None:
        tiny_ip_adapter.build_image_encoder(folder / "prompts", embed=embed)
    tiny_sd_inpaint.declare_adapters(folder, None if embed is None else "prompts")
    return catalog


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shown"))


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


async def refusals(chain: Chain, **adapters: Any) -> dict[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await inpainted(chain, adapters=adapters)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.INVALID_FIELD
    return {each.field: each.description for each in error.violations}


STATES = np.zeros((1, PATCHES, HIDDEN), np.float32)
EMBEDS = np.zeros((1, EMBED), np.float32)
AT = "adapters[0].image_prompt"
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing to show": ({"plain": 1.0}, AT, "is required for an IP-Adapter; give images"),
    "nothing in it": ({"plain": ImagePrompt()}, AT, "is required for an IP-Adapter"),
    "two ways": (
        {"plain": ImagePrompt(IMAGE, image_embeds=EMBEDS)},
        AT,
        "has images and image_embeds; give images, image_embeds or image_states",
    ),
    "of a LoRA": ({"lora": ImagePrompt(IMAGE)}, AT, "is an IP-Adapter's; lora is a lora"),
    "too many images": ({"plain": ImagePrompt([IMAGE] * 9)}, f"{AT}.images", "there are 9"),
    "too many images in all": (
        {name: ImagePrompt([IMAGE] * 6) for name in ("plain", "plus", "full")},
        "adapters",
        "show 18 images; the most is 16 in all",
    ),
    "embeddings to steer away from beside images": (
        {"plain": ImagePrompt(IMAGE, negative_image_embeds=EMBEDS)},
        f"{AT}.negative_image_embeds",
        "stands beside image_embeds alone",
    ),
    "states to steer away from beside embeddings": (
        {"plain": ImagePrompt(image_embeds=EMBEDS, negative_image_states=STATES)},
        f"{AT}.negative_image_states",
        "stands beside image_states alone",
    ),
    "too many states": (
        {"full": ImagePrompt(image_states=STATES.repeat(100, 1))},
        f"{AT}.image_states.shape",
        "has 1700 states of an image; 1 to 1024 fit",
    ),
    "neither one to steer away from nor as many": (
        {
            "plain": ImagePrompt(
                image_embeds=EMBEDS.repeat(3, 0), negative_image_embeds=EMBEDS.repeat(2, 0)
            )
        },
        f"{AT}.negative_image_embeds.shape",
        "has 2 rows; 1, or one for each of 3",
    ),
    "no image": (
        {"lora": 1.0, "plain": ImagePrompt([IMAGE, b"none"])},
        "adapters[1].image_prompt.images[1].encoded",
        "PNG, JPEG or WebP",
    ),
    "a latent": (
        {"plain": ImagePrompt(Latents(np.zeros((4, 8, 8), np.float32)))},
        f"{AT}.images[0].latents",
        "does not fit here",
    ),
    "embeddings for one that reads states": (
        {"plus": ImagePrompt(image_embeds=EMBEDS)},
        f"{AT}.image_states",
        "is required by this adapter",
    ),
    "another width": (
        {"plain": ImagePrompt(image_embeds=EMBEDS[:, :3])},
        f"{AT}.image_embeds.shape",
        str(EMBED),
    ),
    "too many embeddings": (
        {"plain": ImagePrompt(image_embeds=EMBEDS.repeat(9, 0))},
        f"{AT}.image_embeds.shape",
        "has 9 rows; 1 to 8 fit",
    ),
    "states without those to steer away from": (
        {"plus": ImagePrompt(image_states=STATES)},
        f"{AT}.negative_image_states",
        "is required by this adapter",
    ),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_by_its_path_and_the_next_request_is_as_before(chain: Chain, refused: Any) -> None:
    adapters, field, sentence = refused
    good = {"plain": ImagePrompt(IMAGE)}
    [before] = await inpainted(chain, adapters=good)
    found = await refusals(chain, **adapters)
    assert sentence in found[field]
    [after] = await inpainted(chain, adapters=good)
    np.testing.assert_array_equal(before, after)


async def test_a_model_without_an_image_encoder_takes_embeddings_alone(tmp_path: Path) -> None:
    async with running_chain(build(tmp_path, embed=None)) as other:
        found = await refusals(other, plain=ImagePrompt(IMAGE))
        assert found == {f"{AT}.images": "this model has no image encoder; send image_embeds"}
        assert await inpainted(other, adapters={"plain": ImagePrompt(image_embeds=EMBEDS + 1)})


async def test_an_image_encoder_of_another_width_is_refused_at_the_images(tmp_path: Path) -> None:
    async with running_chain(build(tmp_path, embed=EMBED + 4)) as other:
        found = await refusals(other, plain=ImagePrompt(IMAGE))
        assert list(found) == [f"{AT}.images.shape"]
