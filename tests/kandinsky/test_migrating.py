"""docs/migrating.md names pipelines, methods, commands and arguments that exist."""

import inspect
import re
from pathlib import Path
from typing import get_args

import diffusers
import pytest

from kandinsky import Client
from kandinsky.cli.app import app
from kandinsky.client import options
from kandinsky.v1 import generation_pb2 as generation

TEXT = Path(__file__).parents[2].joinpath("docs/migrating.md").read_text(encoding="utf-8")
OUTPUTS = {*get_args(options.OutputFormat)}


def table(heading: str) -> list[list[str]]:
    """Each row's cells as the names in them, below the head."""
    [section] = re.findall(rf"^## {heading}$(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows[1:]]


@pytest.mark.parametrize(("theirs", "ours", "commands"), table("Pipelines"))
def test_a_pipeline_has_its_method_and_command(theirs, ours, commands):
    for name in theirs:
        found = diffusers
        for part in name.split("."):
            found = getattr(found, part)
    method, *options = ours
    assert callable(getattr(Client, method.removeprefix("client.")))
    assert {*commands} <= {command.name for command in app.registered_commands}
    name = "".join(part.title() for part in method.removeprefix("client.").split("_"))
    fields = getattr(generation, f"{name}Request").DESCRIPTOR.fields_by_name
    assert {*options} <= {*fields}


def test_an_argument_has_its_parameter():
    methods = [
        getattr(Client, ours[0].removeprefix("client.")) for _, ours, _ in table("Pipelines")
    ]
    parameters = {name for method in methods for name in inspect.signature(method).parameters}
    for known in vars(options).values():
        parameters |= getattr(known, "__optional_keys__", frozenset())
    for theirs, ours in table("Arguments"):
        for name in ours:
            if re.fullmatch(r"[a-z_]+", name):
                assert name in parameters | OUTPUTS | {"mix"}, f"for {theirs}"
