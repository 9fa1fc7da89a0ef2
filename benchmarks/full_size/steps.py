"""A step of the engine taken apart: its network, what is outside of it, and what waits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.full_size.accelerator import seconds
from benchmarks.full_size.networks import Networks
from benchmarks.operations.counting import operations

if TYPE_CHECKING:
    from benchmarks.full_size.engine_side import EngineSide

SHORT, LONG = 10, 30
"""Denoising steps of two runs whose difference is steps alone."""
RUNS = 3
PROFILED = 2
REPEATS = 4
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cuLaunchKernelEx", "cudaLaunchKernelExC")


@dataclass(frozen=True)
class Step:
    """One denoising step of all jobs of a group."""

    seconds: float
    network_seconds: float
    """Of a forward with the same rows, alone."""
    operations: int
    """On the device outside the network, counted on fake tensors."""
    reads: int
    """Of the device, counted likewise."""
    launches: float | None
    """Kernels that the host launches, graphs as one each; None without CUDA."""
    waits: dict[str, float]
    """Times that a thread waits for the device, by the call; the pace of the loop is one event."""

    @property
    def outside(self) -> float:
        """Share of the step that is not its network's."""
        return 1 - self.network_seconds / self.seconds


def step(networks: Networks, side: Any, jobs: int, pixels: int) -> Step:
    """Of an engine that is warm, with so many jobs."""
    each = step_seconds(side, jobs, pixels)
    forward = side.forward(networks.unet_inputs(2 * jobs, pixels))
    with torch.inference_mode():
        network = min(seconds(forward, REPEATS) for _ in range(RUNS))
    counted = operations(jobs, ["ddpm"], {"variance_type": "learned_range"})
    counts = counted.device.total(), counted.to_host.total()
    return Step(each, network, *counts, *_counts(side, jobs, pixels))


def step_seconds(side: "EngineSide", jobs: int, pixels: int) -> float:
    """Of a step of so many jobs: what a long denoising loop takes more than a short one."""
    side.loop_seconds(jobs, pixels, SHORT)
    taken = [
        min(side.loop_seconds(jobs, pixels, steps) for _ in range(RUNS)) for steps in (SHORT, LONG)
    ]
    return (taken[1] - taken[0]) / (LONG - SHORT)


def _counts(side: "EngineSide", jobs: int, pixels: int) -> tuple[float | None, dict[str, float]]:
    if not torch.cuda.is_available():
        return None, {}
    found: list[dict[str, int]] = []
    for steps in (PROFILED, 2 * PROFILED):
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            side.loop_seconds(jobs, pixels, steps)
        found.append({row.key: row.count for row in profiler.key_averages()})
    more = {key: (found[1].get(key, 0) - found[0].get(key, 0)) / PROFILED for key in found[1]}
    launches = sum(more.get(key, 0) for key in (*LAUNCHES, "cudaGraphLaunch"))
    return launches, {key: more[key] for key in WAITS if more.get(key)}
