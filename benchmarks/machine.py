"""What the figures were measured on."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

PACKAGES = ("torch", "diffusers", "transformers", "ray", "grpcio", "kandinsky-serve")


@dataclass(frozen=True)
class Machine:
    """The machine and the versions."""

    cores: int
    """Those that this process, and so every side, may use."""
    processor: str
    memory_gib: float
    device: str
    """Where the networks run."""
    load: float
    """Processes that wanted a core in the minute before the measurement."""
    versions: dict[str, str]
    commit: str
    """Of this repository; with a plus where the working tree differs from it."""


def machine() -> Machine:
    """This one."""
    cuda = torch.cuda.is_available()
    return Machine(
        cores=cores(),
        processor=_processor(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        device=torch.cuda.get_device_name(0) if cuda else "cpu",
        load=round(os.getloadavg()[0], 2),
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        commit=_commit(),
    )


def cores() -> int:
    """Cores that this process may use; its children inherit them."""
    return len(os.sched_getaffinity(0))


def _commit() -> str:
    """Which code this is, whatever docs/ holds; empty outside of a clone."""
    commit = _git("rev-parse", "--short", "HEAD")
    return f"{commit}+" if _git("status", "--porcelain", "--", ".", ":!docs") else commit


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
