"""Fixtures that several kinds of test share, and how Hypothesis runs.

The same examples every time, so that a run depends on the code alone; `pytest
--hypothesis-profile=explore` looks for new ones. No time limit an example: on a busy machine it
measures the neighbours.
"""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Kandinsky 2.2 and the catalog file of model `tiny`."""
    import torch

    from tests import tiny

    torch.set_num_threads(1)
    return tiny.write_catalog(tiny.build(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class PlainInstall:
    """An environment that holds the wheel and what the wheel itself asks for, without extras."""

    bin: Path

    def run(
        self, *command: str, cwd: str | Path = "/", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment's `bin`; nothing of this checkout can be imported."""
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=cwd,
            env=variables,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="session")
def plain_install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> PlainInstall:
    """`pip install` of the wheel into an empty environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install = [*("install", "-q"), *("-c", str(ROOT / "constraints.txt")), str(wheel)]
    subprocess.run([str(folder / "bin" / "pip"), *install], check=True, capture_output=True)
    return PlainInstall(folder / "bin")
