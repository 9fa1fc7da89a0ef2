"""The weights that the memory table says lie on the device at once."""

import pytest
import torch

from benchmarks.memory import on_device
from services.loading.runtime_options import RuntimeOptions
from tests import tiny_sd_inpaint


def size(*networks: torch.nn.Module) -> int:
    """Bytes of float32."""
    return sum(4 * weight.numel() for network in networks for weight in network.parameters())


@pytest.fixture(scope="module")
def unet() -> torch.nn.Module:
    return tiny_sd_inpaint.unet()


@pytest.fixture(scope="module")
def vae() -> torch.nn.Module:
    return tiny_sd_inpaint.vae()


def test_weights_on_the_device(unet: torch.nn.Module, vae: torch.nn.Module) -> None:
    networks = {"unet": unet, "vae": vae}
    blocks = [size(block) for block in [*unet.down_blocks, *unet.up_blocks]]
    largest = max(
        4 * sum(weight.numel() for weight in layer.parameters(recurse=False))
        for layer in [*unet.modules(), *vae.modules()]
    )
    expected = {
        "none": size(unet, vae),
        "model": size(unet),
        "group": size(unet) - sum(blocks) + max(blocks),
        "sequential": largest,
    }
    found = {offload: on_device(networks, RuntimeOptions(offload=offload)) for offload in expected}
    assert found == expected
    assert sorted(found.values(), reverse=True) == list(found.values())


def test_groups_of_an_autoencoder_are_of_one_half(vae: torch.nn.Module) -> None:
    halves = (vae.encoder.down_blocks, vae.decoder.up_blocks)
    parts = (vae.encoder, vae.decoder)
    sizes = [
        size(half) - size(*blocks) + max(map(size, blocks))
        for half, blocks in zip(parts, halves, strict=True)
    ]
    assert on_device({"vae": vae}, RuntimeOptions(offload="group")) == max(sizes)


def test_fused_projections_are_counted(unet: torch.nn.Module) -> None:
    assert on_device({"unet": unet}, RuntimeOptions(fuse_qkv=True)) > size(unet)
