"""What saves memory in Stable Diffusion inpainting does what the reference's own options do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import AutoencoderKL

from kandinsky.catalog.family import Stage
from services.loading.runtime_options import OptionRefused, RuntimeOptions
from services.transport.settings import StageSettings
from tests import tiny_lora, tiny_sd_inpaint
from tests.parity.conftest import Chain, flow_request, pixels, running_chain
from tests.parity.test_lora import adapted
from tests.parity.test_sd_inpaint import (
    IMAGE,
    MASK,
    PROMPT,
    Reference,
    assert_equal,
    inpainted,
    settings,
)
from tests.stagehost import load_family

OFFLOADS = ["none", "model", "sequential", "group"]
Running = Callable[..., AbstractAsyncContextManager[Chain]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an adapter."""
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("sd-memory"))
    tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "plain", 0)
    catalog = tiny_sd_inpaint.write_catalog(folder)
    tiny_sd_inpaint.declare_adapters(folder)
    return catalog


@pytest.fixture
def running(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The chain with runtime options of its decoder, and of its encoders where they are given."""
    monkeypatch.setattr(RuntimeOptions, "check", lambda *_: None)  # so that a CPU offloads

    @asynccontextmanager
    async def chain(
        decoder: Mapping[str, Any], encoders: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Chain]:
        runtime = {Stage.DECODER: decoder, Stage.ENCODERS: encoders or {}}
        async with running_chain(checkpoint, runtime=runtime) as found:
            yield found

    return chain


@pytest.mark.parametrize("offload", OFFLOADS)
async def test_tiles_are_the_reference_s(running: Running, checkpoint: Path, offload: str) -> None:
    """Both of a decoded image and of an encoded one."""
    reference = Reference(checkpoint)
    whole = reference.draw()
    reference.pipeline.vae.enable_tiling()
    async with running({"autoencoder_tiling": True, "offload": offload}) as chain:
        [actual] = await inpainted(chain)
    assert_equal(actual, reference.draw())
    assert np.abs(actual - whole).max() > 1


async def test_slices_are_of_one_image(
    running: Running, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images that are decoded together."""
    seen: list[tuple[int, int]] = []
    original = AutoencoderKL._decode

    def recording(vae: AutoencoderKL, z: Any, return_dict: bool = True) -> Any:
        seen[-1] = (seen[-1][0], len(z))
        return original(vae, z, return_dict)

    async def drawn(options: Mapping[str, Any]) -> list[np.ndarray]:
        async with running(options) as chain:
            return await inpainted(chain, images_per_prompt=3)

    plain = await drawn({})
    monkeypatch.setattr(AutoencoderKL, "_decode", recording)
    whole = AutoencoderKL.decode

    def noting(vae: AutoencoderKL, z: Any, **options: Any) -> Any:
        seen.append((len(z), 0))
        return whole(vae, z, **options)

    monkeypatch.setattr(AutoencoderKL, "decode", noting)
    sliced = await drawn({"autoencoder_slicing": True})
    assert max(rows for rows, _ in seen) > 1
    assert {rows for _, rows in seen} == {1}
    reference = Reference(checkpoint)
    reference.pipeline.vae.enable_slicing()
    for actual, expected, number in zip(sliced, plain, range(3), strict=True):
        assert np.abs(actual - expected).max() <= 1
        assert_equal(actual, reference.draw(seed=11 + number))


@pytest.mark.parametrize("offload", OFFLOADS)
async def test_rows_with_adapters_are_right(
    running: Running, checkpoint: Path, offload: str
) -> None:
    """Beside rows without, in sliced attention, whose weights lie elsewhere."""
    requests = [
        flow_request("inpaint", IMAGE, MASK, PROMPT, **settings(adapters=named))
        for named in ({"plain": 0.8}, None)
    ]
    encoders = {"offload": "sequential" if offload == "group" else offload}
    async with running({"offload": offload, "attention": "sliced"}, encoders) as chain:
        answers = await asyncio.gather(*map(chain.stub.GenerateImages, requests))
    changed, plain = (pixels(answer.images[0]) for answer in answers)
    assert_equal(changed, adapted(checkpoint, {"plain": 0.8}).draw())
    assert_equal(plain, Reference(checkpoint).draw())


def test_adapters_and_fused_projections_are_refused(checkpoint: Path) -> None:
    args = {"model": "tiny", "catalog": [str(checkpoint)], "runtime": {"fuse_qkv": True}}
    with pytest.raises(OptionRefused, match=r"runtime\.fuse_qkv: this model takes adapters"):
        load_family(StageSettings.parse(args), Stage.DECODER)


@pytest.fixture(scope="module")
def asymmetric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose autoencoder has no parts that diffusers passes or moves by themselves."""
    folder = tmp_path_factory.mktemp("sd-memory-asymmetric")
    return tiny_sd_inpaint.write_catalog(tiny_sd_inpaint.build(folder, asymmetric=True))


@pytest.mark.parametrize("way", ["slicing", "tiling"])
def test_an_autoencoder_without_parts_is_named(asymmetric: Path, way: str) -> None:
    runtime = {f"autoencoder_{way}": True}
    args = {"model": "tiny", "catalog": [str(asymmetric)], "runtime": runtime}
    expected = rf"runtime\.autoencoder_{way}: diffusers has no {way} of AsymmetricAutoencoderKL"
    with pytest.raises(OptionRefused, match=expected):
        load_family(StageSettings.parse(args), Stage.DECODER)


async def test_an_autoencoder_without_groups_goes_by_layers(
    asymmetric: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RuntimeOptions, "check", lambda *_: None)
    runtime = {Stage.DECODER: {"offload": "group"}}
    async with running_chain(asymmetric, runtime=runtime) as chain:
        [actual] = await inpainted(chain)
    async with running_chain(asymmetric) as chain:
        [plain] = await inpainted(chain)
    assert_equal(actual, plain)
    args = {"model": "tiny", "catalog": [str(asymmetric)], "runtime": {"offload": "group"}}
    decoder = load_family(StageSettings.parse(args), Stage.DECODER)
    vae = decoder.autoencoder._moments.vae
    assert all(weight.is_meta for weight in vae.parameters())
