"""`python -m kandinsky`, which is the command `kandinsky`."""

from kandinsky.interrupts import leave_at_once


def main() -> None:
    """Run the command."""
    leave_at_once()  # before the imports, which take a second
    from kandinsky.cli import app

    app.main()


if __name__ == "__main__":
    main()
