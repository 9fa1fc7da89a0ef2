"""`python -m gateway`."""

from kandinsky.interrupts import leave_at_once

if __name__ == "__main__":
    leave_at_once()  # before the imports, which take a second
    import typer

    from gateway.server.command import run

    typer.run(run)
