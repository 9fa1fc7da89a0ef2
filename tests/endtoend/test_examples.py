"""What README and examples/ tell a stranger to run, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.conftest import PlainInstall
from tests.endtoend.conftest import System

ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_s_client_example_on_a_plain_install(
    system: System, plain_install: PlainInstall, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", readme, re.S)
    example = example.replace("127.0.0.1:50051", system.gateway)
    done = plain_install.run("python", "-I", "-c", example, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "denoise" in done.stdout
    assert Image.open(tmp_path / "star.png").size == (128, 128)


def test_the_command_on_a_plain_install(
    system: System, plain_install: PlainInstall, tmp_path: Path
) -> None:
    draw = ("text-to-image", "a red circle", "-o", "circle.png", "--address", system.gateway)
    done = plain_install.run("kandinsky", *draw, cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "circle.png").size == (128, 128)


def test_the_stages_by_themselves(system: System, tmp_path: Path) -> None:
    run(tmp_path, str(ROOT / "examples" / "stages.py"), system.stages)
    pictures = [Image.open(tmp_path / f"circle-{percent}.png") for percent in (0, 50, 100)]
    assert all(picture.size == (128, 128) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 3
