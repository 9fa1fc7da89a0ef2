"""What every command that generates images shares: options, progress, files, estimates.

A command is a function that makes a request of its own arguments; `command` adds the options that
all of them share, and runs the request.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from kandinsky.catalog.schedulers import SCHEDULERS
from kandinsky.cli.address import AddressOption, TimeoutOption, resolve
from kandinsky.cli.arguments import adapters, numbers
from kandinsky.cli.errors import fail, fail_with
from kandinsky.cli.outputs import (
    OutputError,
    animates,
    check_writable,
    format_for,
    path_of,
    paths,
    preview_path,
)
from kandinsky.cli.progress import StepBars
from kandinsky.client import (
    DEFAULT_MODEL,
    Client,
    CostEstimate,
    Generated,
    Preview,
    PreviewMode,
    Progress,
    save_animation,
)
from kandinsky.client.fields import put
from kandinsky.client.options import Preset
from kandinsky.interrupts import undoing
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire.errors import KandinskyError

FormatName = Literal["png", "jpeg", "webp", "pixels", "float_pixels", "latents"]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", readable=False, help="PNG, JPEG, WebP or npy file.")
]


LISTS: Mapping[str, type[int] | type[float]] = {"timesteps": int, "sigmas": float}
"""Options that hold numbers with commas between them."""
FREE_U = ("s1", "s2", "b1", "b2")
"""In the order of `enable_freeu` of diffusers."""


def _settings(
    model: Annotated[str, typer.Option(help="Name of a served model.")] = DEFAULT_MODEL,
    images_per_prompt: Annotated[
        int | None, typer.Option("--images-per-prompt", "-n", help="Default: 1.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 or less means none.")] = None,
    preset: Annotated[
        Preset | None, typer.Option(help="What is saved of the work; see docs/quality.md.")
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Noise levels with guidance, 0 to 1."),
    ] = None,
    step_cache_interval: Annotated[
        int | None, typer.Option(help="Steps from one whole pass of the UNet to the next.")
    ] = None,
    prior_steps: Annotated[int | None, typer.Option(help="Denoising steps of the prior.")] = None,
    prior_guidance_scale: Annotated[
        float | None, typer.Option(help="Of the prior; 1 or less means none.")
    ] = None,
    super_resolution_steps: Annotated[
        int | None, typer.Option(help="Denoising steps of super-resolution.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Image i uses seed + i.")] = None,
    scheduler: Annotated[str | None, typer.Option(help=f"One of {', '.join(SCHEDULERS)}.")] = None,
    eta: Annotated[float | None, typer.Option(help="Eta of DDIM, 0 to 1.")] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...", help="Of the steps, in falling order, in place of --steps."
        ),
    ] = None,
    sigmas: Annotated[
        str | None, typer.Option(metavar="S,S,...", help="Noise levels of the steps, likewise.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:SCALE]", help="Of the model; repeat."),
    ] = None,
    adapter_image: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="What an IP-Adapter shows; repeat."),
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option(help="Layers of the text encoder to leave out at its end.")
    ] = None,
    free_u: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="S1 S2 B1 B2", help="FreeU's weights, arXiv 2309.11497."),
    ] = None,
    progress_every: Annotated[
        int | None, typer.Option(help="Steps between two progress events.")
    ] = None,
    preview_every: Annotated[
        int | None,
        typer.Option(help="Steps between previews; see OUTPUT-0.preview.png."),
    ] = None,
    preview_mode: Annotated[
        PreviewMode | None, typer.Option(help="decode is exact, and costs a pass each.")
    ] = None,
    output_quality: Annotated[
        int | None, typer.Option("--quality", help="JPEG and WebP, 1 to 100.")
    ] = None,
) -> None:
    """The options that go into the request."""


def _running(
    output: OutputOption = Path("out.png"),
    format: Annotated[
        FormatName | None, typer.Option(help="Default: by the output's suffix.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print what it would cost; generate nothing.")
    ] = False,
    timeout: TimeoutOption = None,
    request_id: Annotated[str | None, typer.Option(help="Stands in the server's logs.")] = None,
    address: AddressOption = None,
) -> None:
    """The options that say how it is run."""


def command(build: Callable[..., GenerateRequest]) -> Callable[..., None]:
    """The command that runs what `build` makes of its arguments and the shared options.

    Args:
        build: takes the command's own arguments, and the request's options by name.
    """
    own = [p for p in _parameters(build) if p.kind is not inspect.Parameter.VAR_KEYWORD]
    settings, running = _parameters(_settings), _parameters(_running)

    def run(**values: Any) -> None:
        how = {parameter.name: values.pop(parameter.name) for parameter in running}
        values |= {name: numbers(values[name], name, kind) for name, kind in LISTS.items()}
        values["adapters"] = adapters(values.pop("adapter"), values.pop("adapter_image"))
        if values["free_u"] is not None:
            values["free_u"] = dict(zip(FREE_U, values["free_u"], strict=True))
        _run(lambda: build(**values), **how)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own, *settings, *running)
    ]
    signature: Any = run
    signature.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = build.__doc__
    return run


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _run(
    build: Callable[[], GenerateRequest],
    *,
    output: Path,
    format: FormatName | None,
    estimate: bool,
    timeout: float | None,
    request_id: str | None,
    address: str | None,
) -> None:
    try:
        request = _checked(build, output, format)
        if estimate:
            _print_estimate(_estimated(request, timeout, request_id, address))
            return
        images = _generated(request, output, timeout, request_id, address)
        written = _written(request, images, output)
    except KandinskyError as error:
        raise fail_with(error) from error
    except OSError as error:
        raise fail(f"{error.filename or output} cannot be written: {error.strerror}") from error
    for image, path in zip(images, written, strict=False):
        typer.echo(f"{path} seed {image.seed} ({image.elapsed:.1f} s)")


def _checked(
    build: Callable[[], GenerateRequest], output: Path, format: FormatName | None
) -> GenerateRequest:
    """The request, once it is sure that its images can be written."""
    try:
        request = build()
        named = format_for(output, format, animation=animates(request, output))
        put(request.output, {"format": named}, "output")
        files = paths(request, output)
        if request.events.preview_every:
            files += [preview_path(output, index) for index in range(len(files))]
        check_writable(files)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
    except OSError as error:
        raise fail(f"{error.filename} cannot be read: {error.strerror}") from error
    return request


def _generated(
    request: GenerateRequest,
    output: Path,
    timeout: float | None,
    request_id: str | None,
    address: str | None,
) -> list[Generated]:
    """The images, in order; progress is shown and previews are written as they come."""
    images: list[Generated] = []
    with (
        undoing(),
        Client(resolve(address)) as client,
        StepBars() as bars,
        closing(client.stream(request, timeout=timeout, request_id=request_id)) as stream,
    ):
        for event in stream:
            if isinstance(event, Generated):
                images.append(event)
            elif isinstance(event, Progress):
                bars.show(event)
            elif isinstance(event, Preview):
                Image.fromarray(event.pixels).save(preview_path(output, event.index))
    return sorted(images, key=lambda image: image.index)


def _written(request: GenerateRequest, images: Sequence[Generated], output: Path) -> Sequence[Path]:
    """Write an animation where the request and the suffix say so, else a file an image."""
    if animates(request, output):
        save_animation(images, output)
        return [output]
    files = [path_of(output, image.index, len(images)) for image in images]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    return files


def _estimated(
    request: GenerateRequest, timeout: float | None, request_id: str | None, address: str | None
) -> CostEstimate:
    request.validate_only = True
    with (
        Client(resolve(address)) as client,
        closing(client.stream(request, timeout=timeout, request_id=request_id)) as stream,
    ):
        [cost] = (event for event in stream if isinstance(event, CostEstimate))
    return cost


def _print_estimate(cost: CostEstimate) -> None:
    table = Table("stage", "denoise cost", "running", "queued")
    for stage, part in cost.stages.items():
        table.add_row(stage, str(part.denoise_cost), _seconds(part.running), _seconds(part.queued))
    Console().print(table)
    typer.echo(f"images: {cost.images}; least time: {_seconds(cost.least)}")


def _seconds(value: float | None) -> str:
    return "not measured yet" if value is None else f"{value:.1f} s"
