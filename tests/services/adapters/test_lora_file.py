"""Adapter files that cannot be used are refused in a sentence; nothing is changed by them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kandinsky.catalog.adapters import AdapterError
from services.adapters import lora_file
from tests import tiny_lora, tiny_sd_inpaint

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return tiny_sd_inpaint.unet()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("whole"))
    return tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "whole", seed=0, alpha=2.0)


def changed(whole: Path, tmp_path: Path, change: Callable[[Tensors], object]) -> Path:
    """A copy with other tensors, and the same header."""
    tensors = load_file(whole)
    change(tensors)
    with safe_open(whole, "pt") as opened:
        header = opened.metadata()
    save_file(tensors, tmp_path / "changed.safetensors", header)
    return tmp_path / "changed.safetensors"


def first(tensors: Tensors, end: str) -> str:
    return next(key for key in sorted(tensors) if key.startswith("unet.") and key.endswith(end))


def test_each_half_of_a_difference_is_read_with_its_scale(
    whole: Path, network: torch.nn.Module
) -> None:
    tensors, found = load_file(whole), lora_file.read(whole, "unet", network)
    key = first(tensors, lora_file.DOWN)
    name = key.removeprefix("unet.").removesuffix(lora_file.DOWN)
    torch.testing.assert_close(found[name].down, tensors[key])
    expected = tensors[f"unet.{name}{lora_file.UP}"].flatten(1) * 2.0 / 4
    torch.testing.assert_close(found[name].up, expected)
    assert len(found) == sum(key.startswith("unet.") for key in tensors) / 2


def test_ranks_of_modules_have_their_own_alphas(
    whole: Path, network: torch.nn.Module, tmp_path: Path
) -> None:
    """As PEFT matches its patterns: by the end of a module's path."""
    tensors = load_file(whole)
    with safe_open(whole, "pt") as opened:
        config = json.loads(opened.metadata()[lora_file.LORA_ADAPTER_METADATA_KEY])
    config["unet.alpha_pattern"] = {"to_q": 8.0}
    file = tmp_path / "pattern.safetensors"
    save_file(tensors, file, {lora_file.LORA_ADAPTER_METADATA_KEY: json.dumps(config)})
    before, after = (lora_file.read(each, "unet", network) for each in (whole, file))
    for name in before:
        times = 4.0 if name.endswith("to_q") else 1.0
        torch.testing.assert_close(after[name].up, before[name].up * times)


def test_what_is_of_another_network_is_nothing(whole: Path, network: torch.nn.Module) -> None:
    assert lora_file.read(whole, "transformer", network) == {}


BROKEN: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "half of a difference": (lambda t: t.pop(first(t, lora_file.UP)), "lacks a half of"),
    "a module that is not there": (
        lambda t: t.update(
            {
                f"unet.nowhere{end}": t[first(t, end)].clone()
                for end in (lora_file.DOWN, lora_file.UP)
            }
        ),
        "changes nowhere, which the network has not",
    ),
    "another width": (
        lambda t: t.update({first(t, lora_file.DOWN): torch.zeros(4, 3)}),
        "whose shape is",
    ),
    "another rank in each half": (
        lambda t: t.update({first(t, lora_file.UP): torch.zeros(32, 5)}),
        "whose shape is",
    ),
    "not a number": (
        lambda t: t.update({first(t, lora_file.UP): t[first(t, lora_file.UP)] * torch.nan}),
        "holds a value that is not finite",
    ),
    "a DoRA": (
        lambda t: t.update({"unet.mid_block.lora_magnitude_vector": torch.ones(4)}),
        "is a DoRA",
    ),
    "something else": (lambda t: t.update({"unet.bias": torch.ones(4)}), "is not supported"),
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(
    whole: Path,
    network: torch.nn.Module,
    tmp_path: Path,
    change: Callable[[Tensors], object],
    sentence: str,
) -> None:
    file = changed(whole, tmp_path, change)
    with pytest.raises(AdapterError, match=sentence):
        lora_file.read(file, "unet", network)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_file_that_is_none_is_refused(
    network: torch.nn.Module, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "none.safetensors"
    file.write_bytes(content)
    with pytest.raises(AdapterError, match="cannot be read as safetensors"):
        lora_file.read(file, "unet", network)


def test_a_file_that_is_too_large_is_not_read(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    monkeypatch.setattr(lora_file, "LARGEST", 100)
    with pytest.raises(AdapterError, match="is larger than"):
        lora_file.read(whole, "unet", network)
