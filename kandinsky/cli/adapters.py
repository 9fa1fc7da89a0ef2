"""`kandinsky adapters`: what adapters a model has, and loading and unloading them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kandinsky.cli.address import AddressOption, TimeoutOption, resolve
from kandinsky.cli.errors import fail_with
from kandinsky.client import Client
from kandinsky.client.adapters import kind_name
from kandinsky.wire.errors import KandinskyError

Model = Annotated[str, typer.Argument(help="A model with a folder of adapters.")]
Name = Annotated[str, typer.Argument(help="What requests name the adapter by.")]

app = typer.Typer(help="List, load and unload the adapters of a model.", no_args_is_help=True)


@app.command("list")
def list_adapters(model: Model, address: AddressOption = None) -> None:
    """List a model's adapters."""
    table = Table("adapter", "kind", "file", "token")
    with _client(address, 10) as client:
        for each in client.list_adapters(model):
            found = each.adapter
            table.add_row(each.name, kind_name(found), found.file, found.token)
    Console().print(table)


@app.command()
def load(
    model: Model,
    name: Name,
    file: Annotated[str, typer.Argument(help="Path inside the model's folder of adapters.")],
    kind: Annotated[str, typer.Option(help="lora, textual-inversion or ip-adapter.")] = "lora",
    token: Annotated[
        str | None, typer.Option(help="Stands for a textual inversion in prompts.")
    ] = None,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Give an adapter a name, once the model's stages could use its file."""
    with _client(address, timeout) as client:
        changes = client.load_adapter(model, name, file, kind=kind, token=token)
    typer.echo(f"{name} changes {changes} layers or embeddings of {model}")


@app.command()
def unload(model: Model, name: Name, address: AddressOption = None) -> None:
    """Take an adapter's name away; requests that are at work keep it, and the file stays."""
    with _client(address, 10) as client:
        client.unload_adapter(model, name)


@contextmanager
def _client(address: str | None, timeout: float | None) -> Iterator[Client]:
    """A client whose errors become sentences."""
    try:
        with Client(resolve(address), timeout=timeout) as client:
            yield client
    except KandinskyError as error:
        raise fail_with(error) from error
