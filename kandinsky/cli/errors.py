"""How the command says that something went wrong: sentences on stderr, and exit code 1."""

import grpc
import typer
from rich.console import Console

from kandinsky.wire.errors import KandinskyError, carries_reason

console = Console(stderr=True, highlight=False)
"""For everything that is not the command's result."""


def fail(sentence: str) -> typer.Exit:
    """Print the sentence; raise what it returns."""
    typer.echo(sentence, err=True)
    return typer.Exit(1)


def fail_with(error: KandinskyError) -> typer.Exit:
    """Print an error as `field: description` lines, or as its message; raise what it returns."""
    if error.violations:
        lines = [
            f"{violation.field}: {violation.description}"
            if violation.field
            else violation.description
            for violation in error.violations
        ]
        return fail("\n".join(lines))
    if _never_arrived(error):
        return fail(f"{error.message.split(': ')[0]}; start one with `kandinsky up`")
    retry = "" if error.retry_after is None else f"; try again in {error.retry_after:.0f} s"
    return fail(error.message + retry)


def _never_arrived(error: KandinskyError) -> bool:
    cause = error.__cause__
    return (
        isinstance(cause, grpc.RpcError)
        and cause.code() is grpc.StatusCode.UNAVAILABLE
        and not carries_reason(cause)
    )
