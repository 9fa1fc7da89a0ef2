"""Which server a command talks to."""

from typing import Annotated

import typer

from kandinsky.cli import run_file
from kandinsky.client.connection import DEFAULT_ADDRESS

AddressOption = Annotated[
    str | None,
    typer.Option(help=f"HOST:PORT of the server. Default: what `up` serves, or {DEFAULT_ADDRESS}."),
]


def resolve(address: str | None) -> str:
    """The address given, else that of the user's own `up`, else the default."""
    if address is not None:
        return address
    running = run_file.read()
    return DEFAULT_ADDRESS if running is None else running.address
