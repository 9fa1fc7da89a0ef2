"""The `kandinsky` command: clients' commands, and those that installed packages add."""

import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import typer
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from rich.console import Console
from rich.table import Table

from kandinsky.cli import adapters, flows, lock, run_file
from kandinsky.cli.address import AddressOption, resolve
from kandinsky.cli.command import command
from kandinsky.cli.errors import fail, fail_with
from kandinsky.cli.generate import generate
from kandinsky.cli.inspection import inspect
from kandinsky.client import Client
from kandinsky.v1 import models_pb2
from kandinsky.wire.errors import KandinskyError

COMMANDS = "kandinsky.commands"
"""The entry-point group of further commands: name to function."""
SERVING = ("up", "down", "status", "tune")
"""Those of them that the packages of the extra `serve` bring."""


def build(points: Iterable[EntryPoint]) -> typer.Typer:
    """The command with its own subcommands and those of some entry points.

    A subcommand that serves and is not installed, or cannot be imported, says what to install.
    """
    app = typer.Typer(
        help="Serve and use image models of the Kandinsky family.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    flows.register(app)
    app.command("generate")(command(generate))
    app.command()(inspect)
    app.command("lock")(lock.command)
    app.add_typer(adapters.app, name="adapters")
    app.command()(models)
    missing = dict.fromkeys(SERVING, "is not installed")
    for point in sorted(points, key=lambda point: point.name):
        try:
            app.command(point.name)(point.load())
            missing.pop(point.name, None)
        except ImportError as error:
            missing[point.name] = f"cannot be loaded: {error}"
    for name, reason in missing.items():
        _add_missing(app, name, reason)
    return app


def _add_missing(app: typer.Typer, name: str, reason: str) -> None:
    @app.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def unavailable() -> None:
        """Not installed."""
        raise fail(f"{name} {reason}; run pip install 'kandinsky-serve[serve]'")


def models(address: AddressOption = None) -> None:
    """List the models that a server has."""
    try:
        with Client(resolve(address), timeout=10) as client:
            served = client.list_models()
    except KandinskyError as error:
        raise fail_with(error) from error
    table = Table("model", "guides", "canvases", "control", "defaults")
    for model in served:
        steps = (f"{sampler.steps} {sampler.group} steps" for sampler in model.samplers)
        table.add_row(
            f"{model.name}\n{model.description}",
            _names(models_pb2.GuideKind, model.guides),
            _names(models_pb2.CanvasKind, model.canvases),
            _names(models_pb2.ControlSupport, [model.control]),
            "\n".join((f"{model.width}x{model.height}", *steps)),
        )
    Console().print(table)


def _names(enum: EnumTypeWrapper, values: Iterable[int]) -> str:
    """A line each: `text` for GUIDE_KIND_TEXT, and so on."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return "\n".join(enum.Name(value).removeprefix(prefix).lower() for value in values)


app = build(entry_points(group=COMMANDS))


def main() -> None:
    """Run the command that `sys.argv` names."""
    try:
        app()
    except run_file.RunFolderError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
