"""Offloading: networks or layers that are not at work are kept off the device.

A CPU can show layers that move to the meta device and the order in which networks take turns; that
whole networks move, and answer the same from a device of their own, needs a GPU.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.hooks.group_offloading import ModuleGroup
from torch.overrides import TorchFunctionMode

from kandinsky.catalog.family import Stage
from services.loading.model_offloader import ModelOffloader
from services.loading.runtime_options import RuntimeOptions
from tests import tiny
from tests.services.answers import STARTS, decoded_images, embedding, encodings, running, settings
from tests.services.asking import decode_request


@pytest.fixture
def offload_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets offloading on a CPU through: all hooks run, and layers move to the meta device."""
    monkeypatch.setattr(RuntimeOptions, "check", lambda *_: None)


@pytest.mark.parametrize("offload", ["model", "sequential"])
@pytest.mark.usefixtures("offload_anywhere")
async def test_networks_with_offload_hooks_answer_the_same(
    tiny_checkpoint: Path,
    plain_images: np.ndarray,
    plain_encodings: list[torch.Tensor],
    offload: str,
) -> None:
    """On a CPU, where whole networks stay where they are; what moves is in the tests below."""
    options = {"offload": offload}
    assert np.array_equal(await decoded_images(tiny_checkpoint, options), plain_images)
    torch.testing.assert_close(await encodings(tiny_checkpoint, options), plain_encodings)


@pytest.mark.usefixtures("offload_anywhere")
async def test_networks_take_the_device_in_the_order_of_their_forwards(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[str] = []
    original = ModelOffloader.take

    def recording(
        offloader: ModelOffloader, network: torch.nn.Module, device: torch.device
    ) -> None:
        before = offloader._on_device
        original(offloader, network, device)
        if offloader._on_device is not before:
            moves.append(f"{type(network).__name__} {network.config.get('in_channels')}")

    monkeypatch.setattr(ModelOffloader, "take", recording)
    async with running(tiny_checkpoint, Stage.DECODER, {"offload": "model"}) as stages:
        for start in STARTS:
            await stages.decode(decode_request(start))
    unet, inpaint_unet, movq = "UNet2DConditionModel 4", "UNet2DConditionModel 9", "VQModel 3"
    of_noise, of_an_image, of_a_mask = [unet, movq], [unet, movq], [inpaint_unet, movq]
    # The image is encoded by the MoVQ that decoded the one before.
    assert moves == [*of_noise, *of_an_image, *of_a_mask]


class WeightsAtHand(TorchFunctionMode):
    """Notes, at each operation, how many of a network's weights are not on the meta device."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._network = network
        self.counts: list[int] = []

    def count(self) -> int:
        return sum(weight.numel() for weight in self._network.parameters() if not weight.is_meta)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self.counts.append(self.count())
        return function(*args, **(kwargs or {}))


@pytest.mark.usefixtures("offload_anywhere")
def test_sequential_offload_holds_one_layer_at_a_time(tiny_checkpoint: Path) -> None:
    loaders = settings(tiny_checkpoint, offload="sequential").loaders(Stage.DECODER)
    unet = loaders["weights"].model(UNet2DConditionModel, "unet")
    largest = max(
        sum(weight.numel() for weight in layer.parameters(recurse=False))
        for layer in unet.modules()
    )
    with WeightsAtHand(unet) as at_hand, torch.inference_mode():
        assert at_hand.count() == 0
        run(unet)
        assert at_hand.count() == 0
    assert max(at_hand.counts) == largest


@pytest.mark.usefixtures("offload_anywhere")
def test_group_offload_holds_one_block_at_a_time(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the layers that are in no block."""
    at_hand, most = 0, 0

    def size(group: ModuleGroup) -> int:
        own = [weight for module in group.modules for weight in module.parameters()]
        return sum(weight.numel() for weight in {*own, *group.parameters})

    def onload(group: ModuleGroup) -> None:
        nonlocal at_hand, most
        at_hand += size(group)
        most = max(most, at_hand)

    def offload(group: ModuleGroup) -> None:
        nonlocal at_hand
        at_hand -= size(group)

    loaders = settings(tiny_checkpoint, offload="group").loaders(Stage.DECODER)
    unet = loaders["weights"].model(UNet2DConditionModel, "unet")
    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    monkeypatch.setattr(ModuleGroup, "offload_", offload)
    with torch.inference_mode():
        run(unet)
    blocks = [_weights(block) for block in [*unet.down_blocks, *unet.up_blocks]]
    assert most == _weights(unet) - sum(blocks) + max(blocks)
    assert at_hand == 0


def run(unet: UNet2DConditionModel) -> None:
    unet(
        torch.randn(2, 4, 8, 8),
        torch.tensor([5, 9]),
        None,
        added_cond_kwargs={"image_embeds": torch.randn(2, tiny.WIDTH)},
    )


def _weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.usefixtures("offload_anywhere")
async def test_a_compiled_network_with_offload_hooks_answers_the_same(
    tiny_checkpoint: Path, plain_embedding: torch.Tensor
) -> None:
    options = {"offload": "model", "compile": True, "compile_backend": "eager"}
    torch.testing.assert_close(await embedding(tiny_checkpoint, options), plain_embedding)


class Located(torch.nn.Identity):
    """A network that knows the devices it was moved to."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def to(self, device: object) -> "Located":
        self.devices.append(str(device))
        return self


def test_one_network_at_a_time_lies_on_the_device() -> None:
    offloader, networks = ModelOffloader(), [Located() for _ in range(3)]
    for network in networks:
        offloader.join(network, torch.device("cuda"))
    for index in (0, 0, 2, 1, 0):
        networks[index](torch.zeros(1))
        where = [network.devices[-1] for network in networks]
        assert where == ["cuda" if other == index else "cpu" for other in range(3)]
    assert networks[0].devices == ["cpu", "cuda", "cpu", "cuda"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", ["model", "sequential"])
async def test_a_gpu_encodes_the_same(tiny_checkpoint: Path, offload: str) -> None:
    entry = tiny.CATALOG_ENTRY.replace("device: cpu", "device: cuda")
    tiny.write_catalog(tiny_checkpoint, "tiny-cuda", "float64", entry)
    expected = await encodings(tiny_checkpoint, {}, "tiny-cuda")
    actual = await encodings(tiny_checkpoint, {"offload": offload}, "tiny-cuda")
    torch.testing.assert_close(actual, expected)
