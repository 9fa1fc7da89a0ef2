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
    if _bare_code(error) is grpc.StatusCode.UNIMPLEMENTED:
        return fail("another server answers at that address: it does not know this call")
    if _bare_code(error) is grpc.StatusCode.UNAVAILABLE:
        return fail(f"{error.message.split(': ')[0]}; start one with `kandinsky up`")
    retry = "" if error.retry_after is None else f"; try again in {error.retry_after:.0f} s"
    return fail(error.message + retry)


def _bare_code(error: KandinskyError) -> grpc.StatusCode | None:
    """The status of a call that no server of this system has answered."""
    cause = error.__cause__
    if not isinstance(cause, grpc.RpcError) or carries_reason(cause):
        return None
    code: grpc.StatusCode = cause.code()
    return code
