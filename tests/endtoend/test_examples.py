"""What README and examples/ show a stranger, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import PlainInstall
from tests.endtoend.conftest import System

ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_s_client_examples_on_a_plain_install(
    system: System, plain_install: PlainInstall, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    one_flow, combination = re.findall(r"```python\n(.*?)```", readme, re.S)
    printed = []
    for example in (one_flow, combination):
        example = example.replace("127.0.0.1:50051", system.gateway)
        done = plain_install.run("python", "-I", "-c", example, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert "denoise" in printed[0]
    assert float(printed[1]) > 0
    star, half = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("star", "half"))
    assert star.shape == half.shape == (128, 128, 3)
    kept, generated = (
        np.abs(star.astype(int) - half)[:, at].mean() for at in (slice(48), slice(80, 128))
    )
    assert kept < generated


def test_the_command_on_a_plain_install(
    system: System, plain_install: PlainInstall, tmp_path: Path
) -> None:
    draw = ("text-to-image", "a red circle", "-o", "circle.png", "--address", system.gateway)
    done = plain_install.run("kandinsky", *draw, cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "circle.png").size == (128, 128)


def test_the_stages_by_themselves(system: System, tmp_path: Path) -> None:
    run(tmp_path, str(ROOT / "examples" / "stages.py"), system.stages)
    images = [Image.open(tmp_path / f"circle-{percent}.png") for percent in (0, 50, 100)]
    assert all(image.size == (128, 128) for image in images)
    assert len({image.tobytes() for image in images}) == 3
