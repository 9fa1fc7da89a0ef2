"""Commands of packages that may be missing join by entry point."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kandinsky.cli.app import COMMANDS, SERVING, build
from tests.kandinsky.declared import app, entry_points

ROOT = Path(__file__).parents[3]


def test_the_commands_that_serve_are_declared() -> None:
    assert {point.name for point in entry_points()} == set(SERVING)
    said = CliRunner().invoke(app, ["up", "--help"]).stdout
    assert "Serve models on this machine" in said


@pytest.mark.parametrize(
    "points",
    [[], [EntryPoint("up", "no_such_package.commands:up", COMMANDS)]],
    ids=["not declared", "cannot be imported"],
)
def test_without_what_serves_up_names_the_extra(points: list[EntryPoint]) -> None:
    done = CliRunner().invoke(build(points), ["up", "--model", "shapes", "more"])
    assert done.exit_code == 1
    assert done.stderr.startswith("up ")
    assert "pip install 'kandinsky-serve[serve]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_error_in_a_command_s_module_is_not_swallowed(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text("raise ValueError('a fault')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="a fault"):
        build([EntryPoint("up", "faulty:up", COMMANDS)])


def test_an_import_writes_no_environment() -> None:
    """Neither the commands nor Ray's cluster set variables before a command runs."""
    program = (
        "import os; before = set(os.environ);"
        "import services.local.commands, services.local.up, services.local.ray_environment;"
        "import services.local.applications;"
        "print(sorted(set(os.environ) - before));"
        "services.local.ray_environment.apply();"
        "print('RAY_SERVE_PROXY_USE_GRPC' in os.environ)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "True"]
