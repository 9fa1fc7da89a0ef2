"""`kandinsky text-to-image`: pictures from prompts, into files."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from kandinsky.cli.address import AddressOption, resolve
from kandinsky.cli.errors import console, fail, fail_with
from kandinsky.cli.outputs import OutputError, format_for, path_of
from kandinsky.client import DEFAULT_MODEL, Client, Progress
from kandinsky.wire.errors import KandinskyError

FormatName = Literal["png", "jpeg", "webp", "pixels", "float_pixels", "latents"]


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
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, news: Progress) -> None:
        """Moves the image's bar."""
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


def text_to_image(
    prompts: Annotated[list[str], typer.Argument(help="What to draw; several make several.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="PNG, JPEG, WebP or npy file.")
    ] = Path("out.png"),
    model: Annotated[str, typer.Option(help="Name of a served model.")] = DEFAULT_MODEL,
    negative_prompt: Annotated[
        list[str] | None, typer.Option(help="One for all prompts, or one for each.")
    ] = None,
    images_per_prompt: Annotated[int | None, typer.Option("--images-per-prompt", "-n")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 or less means none.")] = None,
    prior_steps: Annotated[int | None, typer.Option(help="Denoising steps of the prior.")] = None,
    prior_guidance_scale: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option(help="Image i uses seed + i.")] = None,
    format: Annotated[
        FormatName | None, typer.Option(help="Default: by the output's suffix.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="JPEG and WebP, 1 to 100.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for the whole request.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Stands in the server's logs.")] = None,
    address: AddressOption = None,
) -> None:
    """Draw pictures from prompts. Several get -0, -1 and so on into their names."""
    try:
        output_format = format_for(output, format)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
    with Client(resolve(address)) as client:
        try:
            with StepBars() as bars:
                images = client.text_to_image(
                    prompts,
                    model=model,
                    negative_prompts=negative_prompt,
                    images_per_prompt=images_per_prompt,
                    height=height,
                    width=width,
                    steps=steps,
                    guidance_scale=guidance_scale,
                    prior_steps=prior_steps,
                    prior_guidance_scale=prior_guidance_scale,
                    seed=seed,
                    output_format=output_format,
                    output_quality=quality,
                    timeout=timeout,
                    request_id=request_id,
                    on_progress=bars.show,
                )
        except KandinskyError as error:
            raise fail_with(error) from error
    for image in images:
        path = path_of(output, image.index, len(images))
        try:
            image.save(path)
        except OSError as error:
            raise fail(f"{path} cannot be written: {error.strerror}") from error
        typer.echo(f"{path} seed {image.seed} ({image.elapsed:.1f} s)")
