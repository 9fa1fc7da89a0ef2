"""`kandinsky inspect`: what a checkpoint folder or hub name holds, and whether it can be served."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import HubCheckpoint, StageCheckpoints
from kandinsky.catalog.hub import HubError, asking
from kandinsky.cli import checkpoint_files
from kandinsky.cli.checkpoint_files import CheckpointFault
from kandinsky.cli.errors import fail
from kandinsky.cli.recognition import Files, Recognised, UnrecognisedError, recognise


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint folder, or a name on the hub.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on the hub.")] = "main",
) -> None:
    """Print what a checkpoint is; exit with 1 if it cannot be served."""
    folder = Path(checkpoint)
    if folder.is_file():
        raise fail(f"{checkpoint} is a file; give the folder of a checkpoint, or a name on the hub")
    try:
        found = recognise(in_folder(folder) if folder.is_dir() else on_hub(checkpoint, revision))
    except UnrecognisedError as error:
        raise fail(f"{checkpoint}: {error}") from error
    faults = [*found.faults, *(_weight_faults(folder, found) if folder.is_dir() else ())]
    for line in _lines(checkpoint, found):
        typer.echo(line)
    if faults:
        raise fail("\n".join(f"cannot be served: {fault}" for fault in faults))
    typer.echo(f"can be served by family {found.kind.family.name}, as {found.serves}")


def in_folder(folder: Path) -> Files:
    """The files of a local checkpoint, links followed."""
    paths = [path for path in folder.glob("**/*") if path.is_file()]
    return Files(
        {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths},
        lambda name: (folder / name).read_bytes(),
    )


def on_hub(name: str, revision: str) -> Files:
    """The files of a checkpoint on the hub; only its small JSON files are fetched.

    Raises:
        UnrecognisedError: it is neither a folder nor a name on the hub.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise UnrecognisedError("the hub needs pip install 'kandinsky-serve[serve]'") from error

    def read(path: str) -> bytes:
        with _asking(name, revision):
            return Path(hub.hf_hub_download(name, path, revision=revision)).read_bytes()

    with _asking(name, revision):
        listed = hub.HfApi().model_info(name, revision=revision, files_metadata=True).siblings
    return Files({file.rfilename: file.size or 0 for file in listed or []}, read)


@contextmanager
def _asking(name: str, revision: str) -> Iterator[None]:
    try:
        with asking(name, revision):
            yield
    except HubError as error:
        raise UnrecognisedError(str(error)) from error


def _weight_faults(folder: Path, found: Recognised) -> list[str]:
    """Weight files that are cut short, by their headers."""
    faults = []
    for part in found.parts:
        try:
            for file in checkpoint_files.weight_files(folder / part.name, found.variant):
                checkpoint_files.weights(file)
        except CheckpointFault as error:
            faults.append(str(error))
    return faults


def _lines(checkpoint: str, found: Recognised) -> list[str]:
    lines = [f"{found.kind.title} ({found.pipeline})"]
    for part in found.parts:
        size = f", {part.bytes / 2**20:.1f} MiB of weights" if part.network else ""
        lines.append(f"  {part.name}: {part.kind}{size}")
    if models := _models_that_name(checkpoint):
        lines.append(f"the catalog's {', '.join(models)} loads it")
    return lines


def _models_that_name(hub: str) -> list[str]:
    catalog = Catalog.load()
    return [
        name
        for name in catalog.names
        if any(
            isinstance(checkpoint, HubCheckpoint) and checkpoint.hub == hub
            for home in catalog[name].stages.values()
            if isinstance(home, StageCheckpoints)
            for checkpoint in home.checkpoints.values()
        )
    ]
