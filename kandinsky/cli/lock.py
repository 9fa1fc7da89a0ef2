"""`kandinsky lock`: writes down which commit each hub revision of a catalog is."""

from pathlib import Path
from typing import Annotated

import typer

from kandinsky.catalog import hub, lock
from kandinsky.catalog.catalog import BUILT_IN, read_entry
from kandinsky.catalog.entry import CatalogError
from kandinsky.catalog.hub import HubError
from kandinsky.cli.errors import fail


def command(
    catalog: Annotated[
        Path | None, typer.Option(help="Folder of entries. Default: the built-in one.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this one; repeat.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if a commit has moved.")
    ] = False,
) -> None:
    """Write down the commit of each hub revision, so that what is served stays what it is."""
    folder = catalog or BUILT_IN
    try:
        entries = {path: read_entry(path) for path in sorted(folder.glob("*.yaml"))}
        before = lock.read(folder)
    except CatalogError as error:
        raise fail(str(error)) from error
    chosen = [each for each in entries.values() if not model or each.name in model]
    if unknown := sorted({*(model or ())} - {each.name for each in chosen}):
        raise fail(f"{folder} has no model {', '.join(unknown)}")
    now: dict[str, str] = {}
    for checkpoint in (one for entry in chosen for one in lock.moving(entry)):
        name = checkpoint.at
        try:
            now[name] = now.get(name) or hub.commit(checkpoint.hub, checkpoint.revision)
        except (HubError, ImportError) as error:
            raise fail(_said(error)) from error
    moved = [name for name, commit in now.items() if before.get(name) != commit]
    for name in sorted(now):
        was = before.get(name)
        change = "" if was == now[name] else f", {'was ' + was if was else 'new'}"
        typer.echo(f"{name} is {now[name]}{change}")
    if check:
        if moved:
            raise typer.Exit(1)
        return
    typer.echo(f"wrote {lock.write(folder, {**before, **now})}")


def _said(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "the hub needs pip install 'kandinsky-serve[serve]'"
    return str(error)
