"""The wheel carries the stubs, and installed by itself it is the client alone."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

IMPORTS = """
import importlib.util
from kandinsky.v1 import decoder_pb2, encoders_pb2, generation_pb2, generation_pb2_grpc
import kandinsky, kandinsky.cli.app
from kandinsky.catalog.catalog import Catalog
assert generation_pb2.TextToImageRequest(prompts=["a"]).prompts == ["a"]
assert {"shapes", "kandinsky-2-2"} <= set(Catalog.load().names)
print(*[m for m in ("torch", "ray", "diffusers", "structlog") if importlib.util.find_spec(m)])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    return folder / "bin"


def test_the_wheel_holds_stubs_and_catalog_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for service in ("encoders", "prior", "decoder", "generation"):
        for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
            assert f"kandinsky/v1/{service}{ending}" in names
    assert "kandinsky/catalog/shapes.yaml" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        *("kandinsky", "services", "gateway")
    }


def test_a_plain_install_is_the_client_alone(wheel: Path, empty_environment: Path) -> None:
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run(
        [str(empty_environment / "pip"), "install", "-q", *constraints, str(wheel)],
        check=True,
        capture_output=True,
    )

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd="/", capture_output=True, text=True)

    imported = run(str(empty_environment / "python"), "-c", IMPORTS)
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.strip() == ""
    refused = run(str(empty_environment / "kandinsky"), "up")
    assert refused.returncode == 1
    assert "kandinsky-serve[gateway,serve]" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
