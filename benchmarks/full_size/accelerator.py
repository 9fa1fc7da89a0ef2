"""The device: what it is, how to wait for it, and how fast it multiplies matrices."""

import importlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = ("torch", "triton", "diffusers", "transformers", "numpy")
MATRIX_SIDES = {"cuda": (4096, 8192, 12288, 16384), "cpu": (512, 1024, 2048)}
MATRIX_REPEATS = {"cuda": 10, "cpu": 3}


@dataclass(frozen=True)
class Accelerator:
    """The machine, the versions, and its measured matrix rate."""

    device: str
    name: str
    cores: int
    versions: dict[str, str]
    dtype: str
    matrix_rates: dict[int, float]
    """Floating-point operations a second of square products, by their side."""

    @property
    def matrix_rate(self) -> float:
        """The best of the sides."""
        return max(self.matrix_rates.values())


def accelerator(device: str, dtype: torch.dtype) -> Accelerator:
    """This machine's; takes seconds, for it multiplies."""
    cuda = device == "cuda"
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    if cuda:
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return Accelerator(
        device=device,
        name=torch.cuda.get_device_name() if cuda else "no accelerator, CPU",
        cores=len(os.sched_getaffinity(0)),
        versions=versions,
        dtype=str(dtype).removeprefix("torch."),
        matrix_rates={side: matrix_rate(device, dtype, side) for side in MATRIX_SIDES[device]},
    )


def synchronize() -> None:
    """Waits until the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Of one call, mean of `repeats` queued one behind another, after a warm-up."""
    work()
    synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize()
    return (time.perf_counter() - started) / repeats


def matrix_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """Floating-point operations a second of products of square matrices."""
    # Random ones: zeros toggle fewer transistors, and the clock stays higher than in real work.
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    best = min(
        seconds(lambda: torch.matmul(left, right, out=product), MATRIX_REPEATS[device])
        for _ in range(3)
    )
    return 2 * side**3 / best


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        pass
    try:  # a build without metadata, as some images hold
        return str(importlib.import_module(package).__version__)
    except ImportError:
        return "absent"
