"""What each memory option saves: the peak of a decoder's process, and the weights on its device."""

import copy
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.child import child
from benchmarks.decoder_process import IMAGES, SIDE, STEPS, TILE, write_checkpoint
from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from services.loading.model_offloader import ModelOffloader
from services.loading.preparation import prepare
from services.loading.runtime_options import RuntimeOptions

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "attention: sliced": {"attention": "sliced"},
    "fuse_qkv": {"fuse_qkv": True},
    "autoencoder_slicing": {"autoencoder_slicing": True},
    "autoencoder_tiling": {"autoencoder_tiling": True},
    "slicing and tiling": {"autoencoder_slicing": True, "autoencoder_tiling": True},
    "offload: model": {"offload": "model"},
    "offload: group": {"offload": "group"},
    "offload: sequential": {"offload": "sequential"},
}
ELSEWHERE = "needs an accelerator"
MIB = 2**20


def measure(setup: Setup, say: Say) -> Report:
    """Decodes one request of several images with each option, in a process of its own."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks = write_checkpoint(folder)
        for option, options in OPTIONS.items():
            say(option)
            file = folder / f"{option}.npy"
            words = (str(folder), str(file), json.dumps(options))
            with child("benchmarks.decoder_process", *words) as peak:
                measured = int(peak) / MIB
            is_here = "offload" not in options or torch.cuda.is_available()
            apart = np.load(file).astype(int) - np.load(folder / "none.npy")
            rows.append(
                {
                    "option": option,
                    "peak, MiB": measured if is_here else ELSEWHERE,
                    "weights on the device, MiB": on_device(networks, RuntimeOptions(**options))
                    / MIB,
                    "levels from none": int(np.abs(apart).max()),
                }
            )
    return Report(
        title=f"Memory of a decoder, {IMAGES} images of {SIDE} pixels at a time",
        rows=rows,
        note=(
            "Stable Diffusion's inpainting at half its widths with random weights in float32: "
            f"{IMAGES} images of {SIDE} pixels pass it together, after one alone; {STEPS} step(s) "
            f"without guidance, tiles of {TILE} pixels. Each option has a process of its own. "
            "Peak: torch's own count on a GPU, elsewhere the process's resident memory, of which "
            "Python and torch are a part. Weights on the device: the most at once, of groups as "
            "their hooks have it. Levels: the largest difference of any channel, of 255, from the "
            "images without options."
        ),
        plot=bars([row for row in rows if row["peak, MiB"] != ELSEWHERE], "option", "peak, MiB"),
    )


def on_device(networks: Mapping[str, torch.nn.Module], options: RuntimeOptions) -> int:
    """The most bytes of weights at once.

    Args:
        networks: by their parts of a checkpoint.
        options: of their stage.
    """
    prepared = [
        prepare(
            copy.deepcopy(network),
            options,
            torch.device("cpu"),
            ModelOffloader(),
            is_autoencoder=part == "vae",
        )
        for part, network in networks.items()
    ]
    sizes = [sum(map(_bytes, network.modules())) for network in prepared]
    match options.offload:
        case "none":
            return sum(sizes)
        case "model":
            return max(sizes)
        case "sequential":
            return max(_bytes(layer) for network in prepared for layer in network.modules())
        case "group":
            return max(size for network in prepared for size in _groups(network))


def _groups(network: torch.nn.Module) -> list[int]:
    """Of each group of blocks the bytes on the device while it is at work: its own, and those of
    the groups that it is in."""
    sizes: dict[str, int] = {}
    for name, module in network.named_modules():
        registry = getattr(module, "_diffusers_hook", None)
        if registry is not None:
            group = registry.get_hook("group_offloading").group
            inner = [weight for each in group.modules for weight in each.parameters()]
            path = f"{name}." if name else ""
            sizes[path] = sum(weight.nbytes for weight in {*inner, *group.parameters})
    return [
        sum(size for around, size in sizes.items() if path.startswith(around)) for path in sizes
    ]


def _bytes(layer: torch.nn.Module) -> int:
    """Of its own weights."""
    return sum(weight.nbytes for weight in layer.parameters(recurse=False))
