"""Bars on stderr: one an image, with stage, step and time left."""

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from kandinsky.cli.errors import console
from kandinsky.client import Progress


class StepBars:
    """A bar an image: stage, step and time left."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("image {task.fields[image]}"),
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> "StepBars":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Move the image's bar."""
        if not self._tasks:
            self._bars.start()  # only now: a display without bars leaves an empty line behind
        if progress.index not in self._tasks:
            self._tasks[progress.index] = self._bars.add_task("", image=progress.index, left="")
        left = "" if progress.remaining is None else f"{progress.remaining:.1f} s left"
        self._bars.update(
            self._tasks[progress.index],
            description=progress.phase,
            completed=progress.step,
            total=progress.steps,
            left=left,
        )
