"""`python -m gateway`."""

import typer

from gateway.app import run

typer.run(run)
