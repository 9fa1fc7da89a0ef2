"""What is wrong with the adapters of a request is refused by its path, and changes nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml

from kandinsky.client import canvases, guides
from kandinsky.v1 import models_pb2
from kandinsky.wire.errors import Reason, from_rpc_error
from tests import tiny_lora, tiny_sd_inpaint
from tests.parity.conftest import Chain, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK, inpainted


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("refused"))
    catalog = tiny_sd_inpaint.write_catalog(folder)
    file = tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "good", 0)
    (file.parent / "broken.safetensors").write_bytes(file.read_bytes()[:-10])
    with (file.parent / "manifest.yaml").open("a") as manifest:
        manifest.write("broken: {file: broken.safetensors}\nmissing: {file: no.safetensors}\n")
    entry = folder / "tiny.yaml"
    entry.write_text(yaml.safe_dump({**yaml.safe_load(entry.read_text()), "adapters": "adapters"}))
    return catalog


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


async def refusals(chain: Chain, adapters: Any) -> dict[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        canvas = canvases.inpaint(MASK, IMAGE)
        await chain.ask("generate", guides.text("a"), canvas, adapters=adapters, steps=2)
    error = from_rpc_error(failure.value)
    assert error.reason is Reason.INVALID_FIELD
    return {each.field: each.description for each in error.violations}


REFUSED: dict[str, tuple[Any, str, str]] = {
    "an unknown name": (["bad"], "adapters[0].name", "no adapter of this model; it has broken"),
    "too many": ([f"a{i}" for i in range(9)], "adapters", "there are 9; the most is 8"),
    "a broken file": (["good", "broken"], "adapters[1].name", "cannot be read as safetensors"),
    "a missing file": (["missing"], "adapters[0].name", "the file of adapter missing is missing"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_by_its_path_and_the_next_request_is_as_before(chain: Chain, refused: Any) -> None:
    adapters, field, sentence = refused
    [before] = await inpainted(chain, adapters=["good"])
    found = await refusals(chain, adapters)
    assert sentence in found[field]
    [after] = await inpainted(chain, adapters=["good"])
    np.testing.assert_array_equal(before, after)


async def test_a_model_without_adapters_refuses_them(tiny_checkpoint: Path) -> None:
    async with running_chain(tiny_checkpoint) as other:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await other.ask("text_to_image", "a", adapters=["good"])
        [violation] = from_rpc_error(failure.value).violations
        assert (violation.field, violation.description) == ("adapters", "this model takes none")


async def test_they_are_listed(chain: Chain) -> None:
    answer = await chain.stub.ListModels(models_pb2.ListModelsRequest())
    assert [[*model.adapters] for model in answer.models] == [["broken", "good", "missing"]]


async def test_one_that_is_added_is_there_at_once(chain: Chain, checkpoint: Path) -> None:
    tiny_lora.write(checkpoint / "adapters", checkpoint / "sd-inpaint", "later", 3)
    [without] = await inpainted(chain)
    [image] = await inpainted(chain, adapters=["later"])
    assert np.abs(image - without).max() > 8
