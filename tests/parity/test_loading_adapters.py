"""Adapters that come and go at run time: by an RPC, for every replica, and never under a job."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from kandinsky.client import AsyncClient, ImagePrompt
from kandinsky.wire.errors import KandinskyError, Reason
from services.adapters import loras
from tests import tiny_ip_adapter, tiny_lora, tiny_sd_inpaint, tiny_tokens
from tests.parity.company import assert_same
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK, inpainted

NAMES = ("one", "two", "three")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Adapters' files without a manifest."""
    folder = tiny_sd_inpaint.build(tmp_path)
    catalog = tiny_sd_inpaint.write_catalog(folder)
    for seed, name in enumerate(NAMES):
        tiny_lora.write(folder / "adapters", folder / "sd-inpaint", name, seed)
    tiny_tokens.write(folder / "adapters", "toy", 5)
    (folder / "adapters" / "manifest.yaml").unlink()
    tiny_sd_inpaint.declare_adapters(folder)
    return catalog


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint, replicas=2) as running:
        yield running


@pytest.fixture
async def client(chain: Chain) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(chain.address, timeout=60) as connected:
        yield connected


async def ask(chain: Chain, name: str) -> np.ndarray:
    request = flow_request(
        "inpaint", IMAGE, MASK, "dog", steps=12, height=64, width=128, seed=2, adapters=["one"]
    )
    answer = await chain.stub.GenerateImages(request, metadata=(("x-request-id", name),))
    return pixels(answer.images[0])


async def refusal(call: object) -> dict[str, str]:
    with pytest.raises(KandinskyError) as failure:
        await call
    assert failure.value.reason is Reason.INVALID_FIELD
    return {each.field: each.description for each in failure.value.violations}


async def test_one_is_loaded_listed_used_and_unloaded(chain: Chain, client: AsyncClient) -> None:
    [plain] = await inpainted(chain)
    assert await client.load_adapter("tiny", "style", "one.safetensors") > 10
    assert (
        await client.load_adapter("tiny", "toy", "toy.safetensors", kind="textual-inversion") == 1
    )
    assert [each.name for each in await client.list_adapters("tiny")] == ["style", "toy"]
    [image] = await inpainted(chain, "a <toy>", adapters=["style", "toy"])
    assert np.abs(image - plain).max() > 8
    await client.unload_adapter("tiny", "style")
    [listed] = (await client.list_models())[0].adapters
    assert listed == "toy"
    found = await refusal(client.inpaint(IMAGE, MASK, "a", model="tiny", adapters=["style"]))
    assert found == {"adapters[0].name": "is no adapter of this model; it has toy"}


REFUSED: dict[str, tuple[tuple[str, str], dict[str, str], str, str]] = {
    "a missing file": (("new", "no.safetensors"), {}, "adapter.file", "no.safetensors is missing"),
    "a broken file": (("new", "broken.safetensors"), {}, "adapter.file", "cannot be read"),
    "of no part of the model": (("new", "foreign.safetensors"), {}, "adapter.file", "nothing"),
    "outside the folder": (("new", "../a.safetensors"), {}, "adapter.file", "inside the folder"),
    "another kind": (
        ("new", "one.safetensors"),
        {"kind": "textual-inversion"},
        "adapter.file",
        "holds no textual inversion",
    ),
    "no name": (("a b", "one.safetensors"), {}, "name", "is 1 to 128 letters"),
    "a taken name": (("one", "two.safetensors"), {}, "name", "is taken by one.safetensors"),
    "a LoRA's token": (("new", "one.safetensors"), {"token": "x"}, "adapter", "has no token"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_loaded_changes_nothing(
    chain: Chain, client: AsyncClient, case: tuple
) -> None:
    arguments, options, field, sentence = case
    folder = chain.folder / "adapters"
    content = (folder / "one.safetensors").read_bytes()
    (folder / "broken.safetensors").write_bytes(content[:-10])
    (folder / "foreign.safetensors").write_bytes(
        content.replace(b"unet.", b"nets.").replace(b"text_encoder.", b"test_encoder.")
    )
    await client.load_adapter("tiny", "one", "one.safetensors")
    before = (folder / "manifest.yaml").read_bytes()
    found = await refusal(client.load_adapter("tiny", *arguments, **options))
    assert sentence in found[field]
    assert (folder / "manifest.yaml").read_bytes() == before


async def test_an_ip_adapter_is_loaded_and_used(chain: Chain, client: AsyncClient) -> None:
    folder = chain.folder / "adapters"
    file = tiny_ip_adapter.write(folder, chain.folder / "sd-inpaint", "file", 0, form="bin")
    await client.unload_adapter("tiny", "file")
    found = await refusal(client.load_adapter("tiny", "new", "one.safetensors", kind="ip-adapter"))
    assert found == {"adapter.file": "one.safetensors holds no IP-Adapter"}
    assert await client.load_adapter("tiny", "shown", file.name, kind="ip-adapter") == 4
    [plain] = await inpainted(chain)
    embeds = np.ones((1, tiny_ip_adapter.EMBED), np.float32)
    [image] = await inpainted(chain, adapters={"shown": ImagePrompt(image_embeds=embeds)})
    assert np.abs(image - plain).max() > 8


async def test_a_model_without_a_folder_says_so(tiny_checkpoint: Path) -> None:
    async with running_chain(tiny_checkpoint) as other, AsyncClient(other.address) as client:
        assert "model" in await refusal(client.load_adapter("tiny", "a", "a.safetensors"))
        assert "model" in await refusal(client.list_adapters("tiny"))


async def test_a_job_keeps_an_adapter_that_is_unloaded_and_moves_with_it(
    chain: Chain, client: AsyncClient
) -> None:
    """To a replica that never heard of it."""
    await client.load_adapter("tiny", "one", "one.safetensors")
    expected = await ask(chain, "moves")
    first, second = chain.stages.decoders
    moved = asyncio.create_task(ask(chain, "moves"))
    await first.held_at("moves", 5)
    await client.unload_adapter("tiny", "one")
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    assert_same(await moved, expected)
    assert (first.counters.drained, second.counters.resumed) == (1, 1)


async def test_a_job_whose_file_was_exchanged_says_so_where_it_moves(
    chain: Chain, client: AsyncClient
) -> None:
    await client.load_adapter("tiny", "one", "one.safetensors")
    first, _ = chain.stages.decoders
    moved = asyncio.create_task(ask(chain, "moves"))
    await first.held_at("moves", 5)
    other = (chain.folder / "adapters" / "two.safetensors").read_bytes()
    (chain.folder / "adapters" / "one.safetensors").write_bytes(other)
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    with pytest.raises(Exception, match="has changed since the request began"):
        await moved


async def test_loading_and_unloading_under_load_fails_nothing(
    chain: Chain, client: AsyncClient
) -> None:
    await client.load_adapter("tiny", "one", "one.safetensors")
    expected = await ask(chain, "alone")
    done = asyncio.Event()

    async def change() -> None:
        while not done.is_set():
            await client.load_adapter("tiny", "two", "two.safetensors")
            await client.load_adapter("tiny", "three", "three.safetensors")
            await client.unload_adapter("tiny", "two")
            await client.unload_adapter("tiny", "three")

    changing = asyncio.create_task(change())
    images = await asyncio.gather(*(ask(chain, f"{i}") for i in range(12)))
    done.set()
    await changing
    for image in images:
        assert_same(image, expected)


async def test_those_that_nobody_named_for_longest_leave_the_memory(
    chain: Chain, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loras, "KEPT", 1)
    for name in NAMES:
        await client.load_adapter("tiny", name, f"{name}.safetensors")
    images = [await inpainted(chain, adapters=[name]) for name in (*NAMES, *NAMES)]
    for first, again in zip(images[:3], images[3:], strict=True):
        np.testing.assert_array_equal(first, again)
    assert np.abs(images[0][0] - images[1][0]).max() > 8
