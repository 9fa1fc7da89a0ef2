"""Arguments and options that several image commands take, and what is read from them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kandinsky.cli.errors import fail
from kandinsky.client import ConditioningSource, ImagePrompt, InputImage, Interpolation


def file_argument(name: str, what: str = "PNG, JPEG or WebP file.") -> Any:
    """An argument that names an existing file."""
    return typer.Argument(metavar=name, exists=True, dir_okay=False, help=what)


def file_option(what: str = "PNG, JPEG or WebP file.") -> Any:
    """An option that names an existing file."""
    return typer.Option(metavar="FILE", exists=True, dir_okay=False, help=what)


Prompts = Annotated[
    list[str],
    typer.Argument(metavar="PROMPT", help="What to draw; several make several images."),
]
Negatives = Annotated[
    list[str] | None, typer.Option(help="One for all prompts, or one for each; repeat.")
]
Negative = Annotated[str | None, typer.Option(help="What the images do not show.")]
NegativePrior = Annotated[str | None, typer.Option(help="What prior runs steer away from.")]
File = Annotated[Path, file_argument("FILE")]
Mask = Annotated[Path, file_argument("MASK", "White is generated.")]
Hint = Annotated[Path, file_argument("HINT", "Near is white.")]
FileOption = Annotated[Path | None, file_option()]
Strength = Annotated[float | None, typer.Option(help="Share of the steps, above 0 up to 1.")]
PriorStrength = Annotated[
    float | None, typer.Option(help="The prior starts from the image; share of its steps.")
]
TextShare = Annotated[float | None, typer.Option(help="Share of the text, 0 to 1.")]
InterpolationOption = Annotated[Interpolation | None, typer.Option(help="How to blend embeddings.")]
DecoderPrompt = Annotated[str | None, typer.Option(help="For a decoder that reads text.")]
Margin = Annotated[int, typer.Option(min=0, help="Pixels to add.")]
Crop = Annotated[
    int | None, typer.Option(min=0, help="Generate only the mask's box and this margin.")
]
WeightedTexts = Annotated[
    list[str] | None, typer.Option(metavar="WEIGHT:PROMPT", help="A text to blend; repeat.")
]
WeightedFiles = Annotated[
    list[str] | None, typer.Option(metavar="WEIGHT:FILE", help="An image to blend; repeat.")
]


def weighted(
    texts: list[str] | None, files: list[str] | None, options: tuple[str, str]
) -> tuple[list[ConditioningSource], list[float]]:
    """Sources and weights of a mix.

    Args:
        texts: each WEIGHT:PROMPT.
        files: each WEIGHT:FILE.
        options: names of the options that the two came from.

    Raises:
        typer.BadParameter: one has another form.
        typer.Exit: a file does not exist.
    """
    prompts = [_weighted(value, options[0]) for value in texts or []]
    named = [_weighted(value, options[1]) for value in files or []]
    sources: list[ConditioningSource] = [
        *(text for _, text in prompts),
        *(_file(name) for _, name in named),
    ]
    return sources, [weight for weight, _ in (*prompts, *named)]


def numbers(
    value: str | None, name: str, kind: type[int] | type[float]
) -> list[int] | list[float] | None:
    """The numbers of an option that holds several; None where it was not passed.

    Args:
        value: with commas between them.
        name: of the option.
        kind: of each number.

    Raises:
        typer.BadParameter: one is no such number.
    """
    if value is None:
        return None
    try:
        return [kind(part) for part in value.split(",")]
    except ValueError as error:
        why = f"{value!r} is not numbers with commas between them"
        raise typer.BadParameter(why, param_hint=f"--{name}") from error


def adapters(
    values: list[str] | None, images: list[str] | None = None
) -> dict[str, float | ImagePrompt | None] | None:
    """Adapters, and how much of each where that is said; None where none were passed.

    Args:
        values: each NAME or NAME:SCALE.
        images: each NAME=FILE, of an IP-Adapter among them.

    Raises:
        typer.BadParameter: a scale is no number, or an image is of no adapter or no file.
    """
    scales: dict[str, float | None] = {}
    for value in values or ():
        name, colon, scale = value.partition(":")
        try:
            scales[name] = float(scale) if colon else None
        except ValueError as error:
            raise typer.BadParameter(
                f"{value!r} is not NAME:SCALE", param_hint="--adapter"
            ) from error
    shown: dict[str, list[InputImage]] = {}
    for value in images or ():
        name, _, file = value.partition("=")
        if name not in scales or not Path(file).is_file():
            why = f"{value!r} is not NAME=FILE, of a name in --adapter and a file that is there"
            raise typer.BadParameter(why, param_hint="--adapter-image")
        shown.setdefault(name, []).append(Path(file))
    named = {
        name: ImagePrompt(shown[name], scale) if name in shown else scale
        for name, scale in scales.items()
    }
    return named or None


def frame_source(text: str | None, file: Path | None, option: str) -> ConditioningSource:
    """What the first or the last frame shows.

    Raises:
        typer.BadParameter: both are given, or neither.
    """
    if text is not None and file is None:
        return text
    if file is not None and text is None:
        return file
    why = f"pass either a prompt, or an image with {option}-image"
    raise typer.BadParameter(why, param_hint=option)


def _weighted(value: str, option: str) -> tuple[float, str]:
    weight, colon, rest = value.partition(":")
    try:
        if colon and rest:
            return float(weight), rest
    except ValueError:
        pass
    raise typer.BadParameter(f"{value!r} is not WEIGHT:VALUE", param_hint=option)


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise fail(f"file {path} does not exist")
    return path
