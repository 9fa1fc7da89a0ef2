"""What is measured, and how often."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from benchmarks.full_size.networks import FULL, REDUCED, Size


@dataclass(frozen=True)
class Setting:
    """A way to speed the bare pipeline up that diffusers' documentation names."""

    channels_last: bool = False
    fused: bool = False
    """Query, key and value projections of an attention as one product."""
    compiled: str = ""
    """Mode of torch.compile for the UNet and MoVQ's decoding; "" for none."""


EAGER = Setting()
SETTINGS: Mapping[str, Setting] = {
    "channels-last": Setting(channels_last=True),
    "fused-qkv": Setting(fused=True),
    "reduce-overhead": Setting(compiled="reduce-overhead"),
    "reduce-overhead+channels-last": Setting(channels_last=True, compiled="reduce-overhead"),
    "max-autotune+channels-last": Setting(channels_last=True, compiled="max-autotune"),
}
"""https://huggingface.co/docs/diffusers/optimization/fp16 names each of them."""

RUNTIMES: Mapping[str, Mapping[str, bool]] = {
    "eager": {},
    "compiled": {"compile": True, "channels_last": True},
    "compiled+graphs": {"compile": True, "cuda_graphs": True, "channels_last": True},
}
"""The engine's own runtime options, as in a stage's configuration."""


@dataclass(frozen=True)
class Plan:
    """Sizes, steps and rounds of one run; the same for every side."""

    size: Size
    device: str
    dtype: torch.dtype
    pixels: tuple[int, ...]
    concurrencies: tuple[int, ...]
    steps: int
    rounds: int
    sequence_images: int
    """Images a round of the baseline, which makes one at a time whatever the concurrency."""
    turns: int
    """Images a round of every other side, for each that is open or in a batch."""
    batch: int
    """Images a call of the bare pipeline, where it makes several at once."""
    settings: tuple[str, ...]
    """Of SETTINGS."""
    runtimes: tuple[str, ...]
    """Of RUNTIMES."""
    guidance: float = 4.0

    @property
    def warm_up_steps(self) -> int:
        """Enough to meet every shape; compiling and choosing kernels happens here."""
        return min(self.steps, 3)


def full(dtype: torch.dtype = torch.bfloat16) -> Plan:
    """Full size on CUDA."""
    return Plan(
        size=FULL,
        device="cuda",
        dtype=dtype,
        pixels=(512, 768),
        concurrencies=(1, 2, 4, 8, 16),
        steps=50,
        rounds=3,
        sequence_images=2,
        turns=1,
        batch=8,
        settings=("channels-last", "reduce-overhead+channels-last"),
        runtimes=("eager", "compiled+graphs"),
    )


def reduced(device: str, dtype: torch.dtype = torch.float32) -> Plan:
    """The same code in about two minutes on two cores. Its figures say nothing of full size."""
    return Plan(
        size=REDUCED,
        device=device,
        dtype=dtype,
        pixels=(64, 96),
        concurrencies=(1, 4),
        steps=10,
        rounds=3,
        sequence_images=2,
        turns=1,
        batch=4,
        settings=("channels-last", "fused-qkv", "reduce-overhead"),
        runtimes=("eager", "compiled"),
    )
