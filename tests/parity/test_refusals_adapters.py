"""What is wrong with the adapters of a request is refused by its path, and changes nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky.client import canvases, guides
from kandinsky.v1 import models_pb2
from kandinsky.wire.errors import Reason, from_rpc_error
from tests import tiny_lora, tiny_sd_inpaint, tiny_tokens
from tests.parity.conftest import Chain, flow_request, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK, inpainted


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("refused"))
    catalog = tiny_sd_inpaint.write_catalog(folder)
    file = tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "good", 0)
    (file.parent / "broken.safetensors").write_bytes(file.read_bytes()[:-10])
    with (file.parent / "manifest.yaml").open("a") as manifest:
        manifest.write("broken: {file: broken.safetensors}\nmissing: {file: no.safetensors}\n")
    tiny_tokens.write(folder / "adapters", "toy", 1, count=8)
    tiny_tokens.write(folder / "adapters", "twin", 2, token="<toy>")
    tiny_tokens.write(folder / "adapters", "letter", 3, token="b")
    tiny_sd_inpaint.declare_adapters(folder)
    return catalog


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


async def refusals(chain: Chain, adapters: Any, prompt: str = "a") -> dict[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        canvas = canvases.inpaint(MASK, IMAGE)
        await chain.ask("generate", guides.text(prompt), canvas, adapters=adapters, steps=2)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.INVALID_FIELD
    return {each.field: each.description for each in error.violations}


REFUSED: dict[str, tuple[Any, str, str]] = {
    "an unknown name": (["bad"], "adapters[0].name", "no adapter of this model; it has broken"),
    "too many": ([f"a{i}" for i in range(9)], "adapters", "there are 9; the most is 8"),
    "a broken file": (["good", "broken"], "adapters[1].name", "cannot be read as safetensors"),
    "how much of a token": ({"toy": 0.5}, "adapters[0].scale", "is a LoRA's"),
    "two of one token": (["toy", "twin"], "adapters[1].name", "has the token <toy> of another"),
    "a known token": (["good", "letter"], "adapters[1].name", "b is in the vocabulary already"),
    "a missing file": (["missing"], "adapters[0].name", "the file no.safetensors is missing"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_by_its_path_and_the_next_request_is_as_before(chain: Chain, refused: Any) -> None:
    adapters, field, sentence = refused
    [before] = await inpainted(chain, adapters=["good"])
    found = await refusals(chain, adapters)
    assert sentence in found[field]
    [after] = await inpainted(chain, adapters=["good"])
    np.testing.assert_array_equal(before, after)


async def test_a_text_that_its_tokens_make_too_long_is_not_cut(chain: Chain) -> None:
    found = await refusals(chain, ["toy"], " ".join(["<toy>"] * 10))
    assert found == {"guide.text.prompts[0]": "takes 82 tokens; the most is 77"}


async def test_what_the_gateway_sets_is_no_caller_s(chain: Chain) -> None:
    request = flow_request("inpaint", IMAGE, MASK, "a", adapters=["good"])
    request.adapters[0].pinned.adapter.file = "../secret.safetensors"
    request.adapters[0].pinned.version = "1-1"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await chain.stub.GenerateImages(request)
    [violation] = from_rpc_error(failure.value).violations
    assert violation.field == "adapters[0].pinned"


async def test_a_model_without_adapters_refuses_them(tiny_checkpoint: Path) -> None:
    async with running_chain(tiny_checkpoint) as other:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await other.ask("text_to_image", "a", adapters=["good"])
        [violation] = from_rpc_error(failure.value).violations
        assert (violation.field, violation.description) == ("adapters", "this model takes none")


async def test_they_are_listed(chain: Chain) -> None:
    answer = await chain.stub.ListModels(models_pb2.ListModelsRequest())
    assert [[*model.adapters] for model in answer.models] == [
        ["broken", "good", "letter", "missing", "toy", "twin"]
    ]


async def test_one_that_is_added_is_there_at_once(chain: Chain, checkpoint: Path) -> None:
    tiny_lora.write(checkpoint / "adapters", checkpoint / "sd-inpaint", "later", 3)
    [without] = await inpainted(chain)
    [image] = await inpainted(chain, adapters=["later"])
    assert np.abs(image - without).max() > 8
