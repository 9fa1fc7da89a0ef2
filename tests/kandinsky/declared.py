"""The command with the subcommands that pyproject.toml declares, whatever is installed."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from kandinsky.cli.app import COMMANDS, build

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def entry_points() -> list[EntryPoint]:
    """Of the group of further commands."""
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"][COMMANDS]
    return [EntryPoint(name, value, COMMANDS) for name, value in declared.items()]


app = build(entry_points())
