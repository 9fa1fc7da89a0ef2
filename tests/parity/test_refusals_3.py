"""What the declaration of Kandinsky 3 lacks is refused in a sentence, before any work."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky.client import canvases, guides
from kandinsky.wire.errors import Reason, from_rpc_error
from tests import tiny_3
from tests.parity.conftest import Chain, running_chain


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_3.write_catalog(tiny_3.build(tmp_path_factory.mktemp("tiny-3")))


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


SQUARE = np.zeros((64, 64, 3), np.uint8)
EMBED = np.ones((1, tiny_3.WIDTH), np.float32)
GUIDES, CANVASES = "its guides are text, embeddings", "its canvases are noise, image"
REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "mix": ("mix", (["a", "b"], [1, 1]), {}, f"mix; {GUIDES}"),
    "interpolation": ("interpolate_frames", ("a", "b", 2), {}, f"interpolation; {GUIDES}"),
    "image": ("variation", (SQUARE,), {}, f"variation; {GUIDES}"),
    "text_diff": ("text_guided_edit", (SQUARE, "a", "b"), {}, f"text_diff; {GUIDES}"),
    "text_and_image": (
        "generate",
        (guides.text_and_image("a", SQUARE),),
        {},
        f"text_and_image; {GUIDES}",
    ),
    "inpaint": ("inpaint", (SQUARE, SQUARE[..., 0], "a"), {}, f"text+inpaint; {CANVASES}"),
    "outpaint": ("outpaint", (SQUARE, "a"), {"left": 64}, f"text+outpaint; {CANVASES}"),
    "embeddings on a mask": (
        "generate",
        (guides.image_embeds(EMBED), canvases.inpaint(SQUARE[..., 0], SQUARE)),
        {},
        f"embeddings+inpaint; {CANVASES}",
    ),
    "control": ("control", (SQUARE, "a"), {}, "text+control; it follows no control hint"),
}


@pytest.mark.parametrize(("flow", "args", "options", "rest"), REFUSED.values(), ids=REFUSED)
async def test_guides_canvases_and_control_that_it_lacks(
    chain: Chain, flow: str, args: tuple[Any, ...], options: dict[str, Any], rest: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.ask(flow, *args, **options)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.FLOW_UNSUPPORTED
    assert error.message == f"model tiny does not have {rest}"


BAD: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a prior's settings": (
        {"prior_steps": 3, "prior_guidance_scale": 2.0, "prior_negative_texts": ["x"]},
        {
            f"prior.{name}": "no prior runs for this request"
            for name in ("steps", "guidance_scale", "negative_texts")
        },
    ),
    "an image embedding to steer away from": (
        {"negative_image_embeds": EMBED},
        {"negative.image_embeds": "this model's decoder reads no image embedding"},
    ),
    "a size between two": (
        {"height": 100},
        {"decoder.height": "100 is not a multiple of 64; use 64 or 128"},
    ),
    "too many tokens": (
        {"negative_prompts": ["o" * 127]},
        {"negative.texts[0]": "takes 129 tokens; the most is 128"},
    ),
}


@pytest.mark.parametrize(("options", "violations"), BAD.values(), ids=BAD)
async def test_settings_of_other_families_and_what_is_too_much(
    chain: Chain, options: dict[str, Any], violations: dict[str, str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.ask("generate", guides.text("a"), **options)
    error = from_rpc_error(failure.value)
    assert {each.field: each.description for each in error.violations} == violations
    assert chain.stages.decoder.counters.forwards == 0


async def test_embeddings_of_another_family(chain: Chain) -> None:
    guide = guides.embeddings([{"image_embed": EMBED[0], "text_embed": EMBED[0]}])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.ask("generate", guide)
    at = "guide.embeddings.conditionings[0]"
    assert {each.field: each.description for each in from_rpc_error(failure.value).violations} == {
        f"{at}.image_embed": "is not read by this model's decoder",
        f"{at}.text_embed": "is not read by this model's decoder",
        f"{at}.text_states": "is required: the decoder reads it",
        f"{at}.text_mask": "is required: the decoder reads it",
    }
