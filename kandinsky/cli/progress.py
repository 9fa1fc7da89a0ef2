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

    def show(self, news: Progress) -> None:
        """Moves the image's bar."""
        if not self._tasks:
            self._bars.start()  # only now: a display without bars leaves an empty line behind
        if news.index not in self._tasks:
            self._tasks[news.index] = self._bars.add_task("", image=news.index, left="")
        left = "" if news.remaining is None else f"{news.remaining:.1f} s left"
        self._bars.update(
            self._tasks[news.index],
            description=news.phase,
            completed=news.step,
            total=news.steps,
            left=left,
        )
