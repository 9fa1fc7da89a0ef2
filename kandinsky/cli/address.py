"""Which server a command talks to, and how long it waits."""

from typing import Annotated

import typer

from kandinsky.cli import run_file
from kandinsky.client.connection import DEFAULT_ADDRESS, address_fault, timeout_fault


def _checked_address(address: str | None) -> str | None:
    if address is not None and (fault := address_fault(address)):
        raise typer.BadParameter(fault)
    return address


def _checked_timeout(seconds: float | None) -> float | None:
    if seconds is not None and (fault := timeout_fault(seconds)):
        raise typer.BadParameter(fault)
    return seconds


AddressOption = Annotated[
    str | None,
    typer.Option(
        callback=_checked_address,
        help=f"HOST:PORT of the server. Default: what `up` serves, or {DEFAULT_ADDRESS}.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        callback=_checked_timeout,
        help="Seconds for the whole request, above 0. Default: no limit.",
    ),
]


def resolve(address: str | None) -> str:
    """The address given, else that of the user's own `up`, else the default."""
    if address is not None:
        return address
    running = run_file.read()
    return DEFAULT_ADDRESS if running is None else running.address
