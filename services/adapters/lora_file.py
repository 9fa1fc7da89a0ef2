"""LoRA files as differences of a network's modules: of diffusers, PEFT and Kohya's scripts.

The keys are turned into PEFT's by diffusers' own conversions, and a module's scale is what PEFT
would compute, so that an adapter does here what it does in a pipeline.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from diffusers.utils.peft_utils import get_peft_kwargs
from peft.utils.other import get_pattern_key

from kandinsky.catalog.adapters import AdapterError

LARGEST = 2**31
"""Bytes of a file."""
PEFT_CONFIG, PEFT_PREFIX = "adapter_config.json", "base_model.model."
"""What PEFT writes."""
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LowRank:
    """The difference of one module's weight: `up` times `down`, scaled."""

    down: torch.Tensor
    """[r, in], or [r, in, kh, kw] of a convolution."""
    up: torch.Tensor
    """[out, r], with the scale in it."""


def read(file: Path, part: str, network: torch.nn.Module) -> Mapping[str, LowRank]:
    """What a file changes of a network, by the module's path; nothing where it is another's.

    Args:
        file: safetensors.
        part: `unet` or `text_encoder`: the prefix of the network's keys.
        network: has the modules.

    Raises:
        AdapterError: it is no such file, too large, or changes what the network has not.
    """
    tensors, header = _load(file)
    modules = dict(network.named_modules())
    if any(key.startswith(PEFT_PREFIX) for key in tensors):
        own = {key.removeprefix(PEFT_PREFIX): value for key, value in tensors.items()}
        if not any(key.removesuffix(DOWN) in modules for key in own):
            return {}  # of another network
        config = _folder_config(file)
    else:
        own, alphas = _of_pipeline(tensors, part)
        if not own:
            return {}
        config = _config(header, part) or _inferred(own, alphas, part)
    if part == "text_encoder" and not hasattr(network, "text_model"):  # flat of late
        own = {key.removeprefix("text_model."): value for key, value in own.items()}
    names: dict[str, None] = {}
    for key in own:
        name = key.removesuffix(UP).removesuffix(DOWN)
        if name == key:
            raise AdapterError(f"{file.name} holds {key}, which is not supported")
        names[name] = None
    found: dict[str, LowRank] = {}
    for name in names:
        if {name + DOWN, name + UP} - own.keys():
            raise AdapterError(f"{file.name} lacks a half of {name}")
        if name not in modules:
            raise AdapterError(f"{file.name} changes {name}, which the network has not")
        down, up = own[name + DOWN], own[name + UP]
        _check(file, name, modules[name], down, up)
        found[name] = LowRank(down, up.flatten(1) * _scale(config, name, down.shape[0]))
    return found


def _load(file: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    """Tensors and header of a file."""
    try:
        if file.stat().st_size > LARGEST:
            raise AdapterError(f"{file.name} is larger than {LARGEST >> 30} GiB")
        with safetensors.safe_open(file, "pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise AdapterError(f"{file.name} cannot be read as safetensors") from error
    if any("dora_scale" in key or "lora_magnitude_vector" in key for key in tensors):
        raise AdapterError(f"{file.name} is a DoRA, which is not supported")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise AdapterError(f"{file.name} holds a value that is not finite")
    return tensors, header


def _of_pipeline(
    tensors: Mapping[str, torch.Tensor], part: str
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """A part's weights in PEFT's keys, and its alphas, of what diffusers' pipelines load."""
    try:
        state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(tensors))
        own, scales = _prefixed(state, part), _prefixed(alphas or {}, part)
        if own and part == "unet":
            own, scales = map(convert_unet_state_dict_to_peft, (own, scales))
        elif own:
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
    except (ValueError, KeyError, IndexError) as error:
        raise AdapterError(f"its keys cannot be understood: {error}") from error
    return own, scales


def _prefixed(state: Mapping[str, Any], part: str) -> dict[str, Any]:
    before = f"{part}."
    return {
        key.removeprefix(before): value for key, value in state.items() if key.startswith(before)
    }


def _config(header: Mapping[str, str], part: str) -> Mapping[str, Any] | None:
    """What the header says of ranks and alphas; None where it says nothing."""
    if LORA_ADAPTER_METADATA_KEY not in header:
        return None
    return _prefixed(json.loads(header[LORA_ADAPTER_METADATA_KEY]), part)


def _folder_config(file: Path) -> Mapping[str, Any]:
    """What PEFT writes beside the weights."""
    try:
        config = json.loads((file.parent / PEFT_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{PEFT_CONFIG} beside {file.name} cannot be read") from error
    found: Mapping[str, Any] = config
    return found


def _inferred(
    own: Mapping[str, torch.Tensor], alphas: Mapping[str, float], part: str
) -> Mapping[str, Any]:
    ranks = {key: up.shape[1] for key, up in own.items() if key.endswith(UP)}
    found: Mapping[str, Any] = get_peft_kwargs(ranks, alphas, own, is_unet=part == "unet")
    return found


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """By which PEFT multiplies a module's difference."""
    alphas: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha: float = alphas.get(get_pattern_key(list(alphas), name), config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check(
    file: Path, name: str, module: torch.nn.Module, down: torch.Tensor, up: torch.Tensor
) -> None:
    """Refuse what does not fit a module.

    Raises:
        AdapterError: it is neither a Linear nor an ungrouped Conv2d, or of another shape.
    """
    weight = module.weight if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) else None
    if weight is None or getattr(module, "groups", 1) != 1:
        raise AdapterError(f"{file.name} changes {name}, which is no linear layer or convolution")
    fits = (
        down.shape[1:] == weight.shape[1:]
        and up.shape[:2] == (weight.shape[0], down.shape[0])
        and up.shape[2:].numel() == 1
    )
    if not fits:
        raise AdapterError(f"{file.name} changes {name}, whose shape is {list(weight.shape)}")
