"""The wheel carries the stubs, and installed by itself it is the client alone.

That a plain install draws is tested in `tests/endtoend/test_examples.py`.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil

from kandinsky.cli.run_file import FILE
from tests.conftest import PlainInstall

IMPORTS = """
import importlib.util
from kandinsky.v1 import decoder_pb2, encoders_pb2, generation_pb2, generation_pb2_grpc
import kandinsky, kandinsky.cli.app
from kandinsky.catalog.catalog import Catalog
assert generation_pb2.GenerateRequest(model="a").model == "a"
assert {"shapes", "kandinsky-2-2"} <= set(Catalog.load().names)
print(kandinsky.__file__)
print(*[m for m in ("torch", "ray", "diffusers", "structlog") if importlib.util.find_spec(m)])
"""


def test_the_wheel_holds_stubs_and_catalog_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for service in ("encoders", "prior", "decoder", "generation"):
        for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
            assert f"kandinsky/v1/{service}{ending}" in names
    assert "kandinsky/catalog/shapes.yaml" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        *("kandinsky", "services", "gateway")
    }


def test_a_plain_install_is_the_client_alone(plain_install: PlainInstall) -> None:
    imported = plain_install.run("python", "-c", IMPORTS)
    assert imported.returncode == 0, imported.stderr
    home, extras = imported.stdout.splitlines()
    assert Path(home).is_relative_to(plain_install.bin.parent)
    assert extras == ""
    refused = plain_install.run("kandinsky", "up")
    assert refused.returncode == 1
    assert "kandinsky-serve[gateway,serve]" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


def test_a_plain_install_finds_and_ends_a_running_up(
    plain_install: PlainInstall, tmp_path: Path
) -> None:
    folder = tmp_path / "kandinsky"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
        running = {"pid": process.pid, "started": started, "address": "127.0.0.1:1"}
        (folder / FILE).write_text(json.dumps({**running, "models": ["shapes"]}))
        shown, ended = (
            plain_install.run("kandinsky", command, XDG_RUNTIME_DIR=str(tmp_path))
            for command in ("status", "down")
        )
        assert process.wait(60) != 0
    assert shown.stdout == f"process {process.pid} serves at 127.0.0.1:1\n"
    assert shown.stderr == "no server answers at 127.0.0.1:1; start one with `kandinsky up`\n"
    assert (ended.returncode, ended.stdout) == (0, "ended shapes at 127.0.0.1:1\n")


def test_what_a_plain_install_lacks_is_a_sentence(plain_install: PlainInstall) -> None:
    asked = plain_install.run("kandinsky", "inspect", "somebody/something")
    assert asked.returncode == 1
    assert "pip install 'kandinsky-serve[serve]'" in asked.stderr
    assert "Traceback" not in asked.stderr
