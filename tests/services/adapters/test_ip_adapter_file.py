"""IP-Adapter files that cannot be used are refused in a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from kandinsky.catalog.adapters import AdapterError
from services.adapters import ip_adapter_file
from tests import tiny_ip_adapter, tiny_sd_inpaint

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> UNet2DConditionModel:
    return tiny_sd_inpaint.unet()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("ip"))
    for name, reads in (("plain", "embeddings"), ("plus", "states"), ("full", "all")):
        tiny_ip_adapter.write(folder / "adapters", folder / "sd-inpaint", name, 0, reads=reads)
    return folder / "adapters"


def read(file: Path, network: UNet2DConditionModel) -> ip_adapter_file.IpAdapter:
    return ip_adapter_file.read(file, network, torch.empty(0))


def test_what_it_reads_and_changes(folder: Path, network: UNet2DConditionModel) -> None:
    names = ("plain", "plus", "full")
    plain, plus, full = (read(folder / f"{name}.safetensors", network) for name in names)
    assert (plain.reads_states, plain.width) == (False, tiny_ip_adapter.EMBED)
    assert (plus.reads_states, plus.width) == (True, tiny_ip_adapter.HIDDEN)
    assert (full.reads_states, full.width) == (True, tiny_ip_adapter.HIDDEN)
    attentions = ip_adapter_file.cross_attentions(network)
    assert len(plain.keys) == len(plain.values) == len(attentions) == 4
    for key, attention in zip(plain.keys, attentions, strict=True):
        assert key.shape == attention.to_k.weight.shape


K = "ip_adapter.1.to_k_ip.weight"
BROKEN: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "an attention that is missing": (lambda t: t.pop(K), "lacks 1.to_k_ip.weight"),
    "another width": (lambda t: t.update({K: t[K][:, :3].clone()}), "the network's is"),
    "more attentions": (
        lambda t: t.update({"ip_adapter.99.to_k_ip.weight": t[K].clone()}),
        "has more attentions than the network",
    ),
    "no projection": (
        lambda t: [t.pop(key) for key in list(t) if key.startswith("image_proj.")],
        "holds no IP-Adapter",
    ),
    "another projection": (lambda t: t.pop("image_proj.proj.weight"), "FaceID|understood"),
    "a projection with more": (
        lambda t: t.update({"image_proj.more": torch.zeros(1)}),
        "the projection of changed.safetensors cannot be understood",
    ),
    "tokens of another width": (
        lambda t: t.update(
            {
                "image_proj.proj.weight": torch.zeros(4 * 8, tiny_ip_adapter.EMBED),
                "image_proj.proj.bias": torch.zeros(4 * 8),
                "image_proj.norm.weight": torch.ones(8),
                "image_proj.norm.bias": torch.zeros(8),
            }
        ),
        "makes tokens that are not 32 wide",
    ),
    "a FaceID adapter": (
        lambda t: t.update({"image_proj.proj.0.weight": torch.zeros(2, 2)}),
        "is a FaceID adapter",
    ),
    "not finite": (lambda t: t.update({K: t[K] * torch.nan}), "not finite"),
    "integers": (lambda t: t.update({K: t[K].long()}), "holds no IP-Adapter"),
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(
    folder: Path,
    network: UNet2DConditionModel,
    tmp_path: Path,
    change: Callable[[Tensors], object],
    sentence: str,
) -> None:
    weights = load_file(folder / "plain.safetensors")
    change(weights)
    save_file(weights, tmp_path / "changed.safetensors")
    with pytest.raises(AdapterError, match=sentence):
        read(tmp_path / "changed.safetensors", network)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_file_that_is_none_is_refused(
    network: UNet2DConditionModel, tmp_path: Path, content: bytes, suffix: str
) -> None:
    file = tmp_path / f"none.{suffix}"
    file.write_bytes(content)
    with pytest.raises(AdapterError, match="cannot be read as an IP-Adapter"):
        read(file, network)


def test_a_file_that_is_too_large_is_not_read(
    network: UNet2DConditionModel, tmp_path: Path
) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(ip_adapter_file.LARGEST + 1)
    with pytest.raises(AdapterError, match="larger than 4 GiB"):
        read(tmp_path / "large.bin", network)


@pytest.mark.parametrize("content", [[], {"ip_adapter": 1}, {"image_proj": {}, "ip_adapter": {}}])
def test_a_pickle_of_something_else_is_refused(
    network: UNet2DConditionModel, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "other.bin")
    with pytest.raises(AdapterError, match=r"other\.bin holds no IP-Adapter"):
        read(tmp_path / "other.bin", network)


PARTIAL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "one value that stands for many": lambda t: torch.zeros(1).expand(2**18, 2**18),
    "sparse": torch.Tensor.to_sparse,
    "without values": lambda t: t.to("meta"),
    "of eight bits": lambda t: t.to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("change", PARTIAL.values(), ids=PARTIAL)
@pytest.mark.parametrize("part", ["image_proj", "ip_adapter"])
def test_a_pickle_that_does_not_hold_each_value_is_refused(
    folder: Path,
    network: UNet2DConditionModel,
    tmp_path: Path,
    part: str,
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    parts: dict[str, Tensors] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in load_file(folder / "plain.safetensors").items():
        owner, name = key.split(".", 1)
        parts[owner][name] = value
    torch.save(parts, tmp_path / "whole.bin")
    read(tmp_path / "whole.bin", network)
    name = next(iter(parts[part]))
    parts[part][name] = change(parts[part][name])
    torch.save(parts, tmp_path / "partial.bin")
    with pytest.raises(AdapterError, match=r"partial\.bin holds no IP-Adapter"):
        read(tmp_path / "partial.bin", network)
