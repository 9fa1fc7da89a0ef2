"""What is wrong with encoded texts that a caller of Karlo gives is refused by its path."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky.client import guides
from kandinsky.wire.errors import Reason, from_rpc_error
from tests import tiny_karlo
from tests.parity.conftest import Chain, running_chain
from tests.parity.test_karlo import text_output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_karlo.build(tmp_path_factory.mktemp("tiny-karlo"))
    return tiny_karlo.write_catalog(folder)


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


TEXT = text_output(1)
NEGATIVE = {f"negative_{name}": part for name, part in text_output(2).items()}
AT = "guide.embeddings.conditionings[0]"
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "nothing": ({}, {}, f"{AT}.image_embed"),
    "a part of a text": ({"text_embed": TEXT["text_embed"]}, {}, f"{AT}.text_states"),
    "a part of a negative side": (
        {**TEXT, "negative_text_embed": NEGATIVE["negative_text_embed"]},
        {},
        f"{AT}.negative_text_states",
    ),
    "an image embedding to steer away from alone": (
        {**TEXT, "negative_image_embed": np.zeros(tiny_karlo.WIDTH)},
        {},
        f"{AT}.image_embed",
    ),
    "a text for the decoder": (TEXT, {"decoder_texts": "a"}, "decoder.texts"),
    "two things for the prior to steer away from": (
        {**TEXT, **NEGATIVE},
        {"prior_negative_texts": "a"},
        "prior.negative_texts",
    ),
    "states of another width": (
        {**TEXT, "text_states": np.zeros((tiny_karlo.POSITIONS, 3))},
        {},
        f"{AT}.text_states.shape",
    ),
    "a mask of another length": (
        {**TEXT, "text_mask": np.ones(3, bool)},
        {},
        f"{AT}.text_mask.shape",
    ),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_by_its_path(chain: Chain, refused: Any) -> None:
    conditioning, options, field = refused
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.ask("generate", guides.embeddings([conditioning]), **options)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.INVALID_FIELD
    assert field in [violation.field for violation in error.violations]
