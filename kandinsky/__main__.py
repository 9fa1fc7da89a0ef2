"""`python -m kandinsky`: the command `kandinsky`."""

from kandinsky.cli.app import main

main()
