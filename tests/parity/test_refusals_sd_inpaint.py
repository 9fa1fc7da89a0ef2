"""What Stable Diffusion inpainting lacks, and what others lack of it, is refused by its path."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky.client import canvases, guides
from kandinsky.wire.errors import KandinskyError, Reason, from_rpc_error
from tests import tiny_sd_inpaint
from tests.parity.conftest import Chain, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd-inpaint")
    return tiny_sd_inpaint.write_catalog(tiny_sd_inpaint.build(folder))


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


async def violations(chain: Chain, guide: Any, canvas: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.ask("generate", guide, canvas, **options)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.INVALID_FIELD
    return {each.field: each.description for each in error.violations}


@pytest.mark.parametrize(
    ("flow", "args", "rest"),
    [
        ("text_to_image", ("a",), "text; its canvases are inpaint, outpaint"),
        ("image_to_image", (IMAGE, "a"), "text+image; its canvases are inpaint, outpaint"),
        ("variation", (IMAGE,), "variation; its guides are text, embeddings"),
    ],
)
async def test_guides_and_canvases_that_it_lacks(
    chain: Chain, flow: str, args: tuple[Any, ...], rest: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.ask(flow, *args)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.FLOW_UNSUPPORTED
    assert error.message == f"model tiny does not have {rest}"


LATENTS = np.zeros((1, 4, 8, 16), np.float32)
FREE_U = {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a prior's settings": (
        {"prior_steps": 3},
        {"prior.steps": "no prior runs for this request"},
    ),
    "too many tokens": (
        {"decoder_texts": ["o" * 90]},
        {"decoder.texts[0]": "takes 92 tokens; the most is 77"},
    ),
    "timesteps beside steps": (
        {"timesteps": [900, 100], "steps": 2, "scheduler": "ddpm"},
        {"decoder.steps": "is the number of decoder.timesteps; leave it out"},
    ),
    "timesteps beside sigmas": (
        {"timesteps": [900, 100], "sigmas": [2.0, 1.0], "scheduler": "euler"},
        {"decoder.sigmas": "stands beside decoder.timesteps; leave one out"},
    ),
    "rising timesteps": (
        {"timesteps": [100, 900], "scheduler": "ddpm"},
        {"decoder.timesteps": "is not in falling order"},
    ),
    "timesteps past the levels": (
        {"timesteps": [1000, 100], "scheduler": "ddpm"},
        {"decoder.timesteps": "must be below 1000"},
    ),
    "timesteps of a scheduler that chooses its own": (
        {"timesteps": [900, 100]},
        {"decoder.timesteps": "DDIMScheduler chooses its own"},
    ),
    "sigmas of a scheduler that chooses its own": (
        {"sigmas": [2.0, 1.0], "scheduler": "ddpm"},
        {"decoder.sigmas": "DDPMScheduler chooses its own"},
    ),
    "a sigma of nothing": ({"sigmas": [2.0, 0.0]}, {"decoder.sigmas[1]": "0 is not above 0"}),
    "more layers than there are": (
        {"clip_skip": 4},
        {"decoder.clip_skip": "is 4; the text encoder has 3 layers"},
    ),
    "an image to steer away from": (
        {"negative_images": IMAGE},
        {"negative.images": "this model's decoder attends to no image"},
    ),
    "a weight of FreeU left out": (
        {"free_u": {"b1": 1.0, "b2": 1.0, "s1": 1.0}},
        {"decoder.free_u.s2": "0 is not above 0, up to 10"},
    ),
}


@pytest.mark.parametrize(("options", "expected"), SETTINGS.values(), ids=SETTINGS)
async def test_settings(chain: Chain, options: dict[str, Any], expected: dict[str, str]) -> None:
    guide, canvas = guides.text("a"), canvases.inpaint(MASK, IMAGE)
    try:
        found = await violations(chain, guide, canvas, **options)
    except KandinskyError as error:  # the SDK checks the contract's ranges before it asks
        found = {each.field: each.description for each in error.violations}
    assert found == expected
    assert chain.stages.decoder.counters.forwards == 0


@pytest.mark.parametrize(
    ("canvas", "expected"),
    [
        (
            canvases.inpaint(MASK, IMAGE, masked_image_latents=LATENTS, padding_mask_crop=4),
            {"canvas.inpaint.masked_image_latents": "a cropped image has no latent"},
        ),
        (
            canvases.inpaint(MASK, IMAGE, masked_image_latents=np.zeros((1, 3, 8, 16))),
            {"canvas.inpaint.masked_image_latents.shape": "must be [4, 8, 16]"},
        ),
    ],
)
async def test_canvases(chain: Chain, canvas: Any, expected: dict[str, str]) -> None:
    found = await violations(chain, guides.text("a"), canvas, height=64, width=128)
    assert found.keys() == expected.keys()


async def test_no_layer_is_left_out_of_a_text_that_comes_encoded(chain: Chain) -> None:
    states = np.zeros((tiny_sd_inpaint.POSITIONS, tiny_sd_inpaint.WIDTH))
    guide = guides.embeddings([{"text_states": states, "negative_text_states": states}])
    found = await violations(chain, guide, canvases.inpaint(MASK, IMAGE), clip_skip=1)
    assert found == {"decoder.clip_skip": "the conditionings hold encoded texts"}


async def test_other_families_refuse_what_they_do_not_declare(tiny_checkpoint: Path) -> None:
    canvas = canvases.inpaint(MASK, IMAGE, masked_image_latents=LATENTS)
    async with running_chain(tiny_checkpoint) as other:
        options = {"timesteps": [900, 100], "free_u": FREE_U, "clip_skip": 1}
        assert await violations(other, guides.text("a"), canvas, **options) == {
            "decoder.timesteps": "this model takes none",
            "decoder.free_u": "this model takes none",
            "decoder.clip_skip": "this model takes none",
            "canvas.inpaint.masked_image_latents": "this model takes none",
        }
        assert await violations(other, guides.text("a"), None, sigmas=[2.0, 1.0]) == {
            "decoder.sigmas": "this model takes none"
        }
