"""The commands that make pictures: a function a flow, each making the flow's request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from kandinsky.cli.errors import fail
from kandinsky.cli.generate import flow, numbered
from kandinsky.client import Condition, Generated, Interpolation, requests, save_animation
from kandinsky.client.animation import SUFFIXES

Prompts = Annotated[
    list[str], typer.Argument(metavar="PROMPT", help="What to draw; several make several.")
]
Negatives = Annotated[
    list[str] | None, typer.Option(help="One for all prompts, or one for each; repeat.")
]
Negative = Annotated[str | None, typer.Option(help="What to steer away from.")]


def _file_argument(name: str, what: str = "PNG, JPEG or WebP file.") -> Any:
    return typer.Argument(metavar=name, exists=True, dir_okay=False, help=what)


File = Annotated[Path, _file_argument("FILE")]
Mask = Annotated[Path, _file_argument("MASK")]
Hint = Annotated[Path, _file_argument("HINT")]
FileOption = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="PNG, JPEG or WebP file.")
]
Strength = Annotated[float | None, typer.Option(help="Share of the steps, above 0 up to 1.")]
PriorStrength = Annotated[
    float | None, typer.Option(help="The prior starts from the picture; share of its steps.")
]
Way = Annotated[Interpolation | None, typer.Option(help="How embeddings are blended.")]
ToldPrompt = Annotated[str | None, typer.Option(help="For a decoder that reads text.")]
Margin = Annotated[int, typer.Option(min=0, help="Pixels to add.")]


def text_to_image(prompts: Prompts, negative_prompt: Negatives = None, **options: Any) -> Message:
    """Draw pictures from prompts. Several get -0, -1 and so on into their names."""
    return requests.text_to_image(prompts, negative_prompts=negative_prompt, **options)


def mix(
    text: Annotated[list[str] | None, typer.Option(help="WEIGHT:PROMPT; repeat.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="WEIGHT:FILE; repeat.")] = None,
    interpolation: Way = None,
    negative_prompt: Negative = None,
    negative_prior_prompt: Negative = None,
    prompt: ToldPrompt = None,
    **options: Any,
) -> Message:
    """Blend texts and pictures by weight, such as --text "0.6:a red circle" --image 0.4:cat.png."""
    texts = [_weighted(value, "--text") for value in text or []]
    files = [_weighted(value, "--image") for value in image or []]
    conditions: list[Condition] = [
        *(text for _, text in texts),
        *(_file(path) for _, path in files),
    ]
    return requests.mix(
        conditions,
        [weight for weight, _ in (*texts, *files)],
        interpolation=interpolation,
        negative_prompt=negative_prompt,
        negative_prior_prompt=negative_prior_prompt,
        prompt=prompt,
        **options,
    )


def interpolate_frames(
    frames: Annotated[int, typer.Option(help="Pictures, both ends included.")],
    first: Annotated[str | None, typer.Option(help="Prompt of the first.")] = None,
    last: Annotated[str | None, typer.Option(help="Prompt of the last.")] = None,
    first_image: FileOption = None,
    last_image: FileOption = None,
    interpolation: Way = None,
    negative_prompt: Negative = None,
    negative_prior_prompt: Negative = None,
    prompt: ToldPrompt = None,
    **options: Any,
) -> Message:
    """Draw the way from one text or picture to another; a .gif or .webp output moves."""
    return requests.interpolate_frames(
        _end(first, first_image, "--first"),
        _end(last, last_image, "--last"),
        frames,
        interpolation=interpolation,
        negative_prompt=negative_prompt,
        negative_prior_prompt=negative_prior_prompt,
        prompt=prompt,
        **options,
    )


def image_to_image(
    image: File,
    prompts: Prompts,
    negative_prompt: Negatives = None,
    strength: Strength = None,
    prior_strength: PriorStrength = None,
    **options: Any,
) -> Message:
    """Draw pictures that start from a picture."""
    return requests.image_to_image(
        image,
        prompts,
        negative_prompts=negative_prompt,
        strength=strength,
        prior_strength=prior_strength,
        **options,
    )


def inpaint(
    image: File,
    mask: Mask,
    prompts: Prompts,
    negative_prompt: Negatives = None,
    strength: Strength = None,
    padding_mask_crop: Annotated[
        int | None, typer.Option(min=0, help="Make only the mask's box and this margin anew.")
    ] = None,
    **options: Any,
) -> Message:
    """Make the part of a picture anew that is white in a mask."""
    return requests.inpaint(
        image,
        mask,
        prompts,
        negative_prompts=negative_prompt,
        strength=strength,
        padding_mask_crop=padding_mask_crop,
        **options,
    )


def outpaint(
    image: File,
    prompts: Prompts,
    top: Margin = 0,
    bottom: Margin = 0,
    left: Margin = 0,
    right: Margin = 0,
    negative_prompt: Negatives = None,
    strength: Strength = None,
    **options: Any,
) -> Message:
    """Continue a picture past its edges."""
    return requests.outpaint(
        image,
        prompts,
        top=top,
        bottom=bottom,
        left=left,
        right=right,
        negative_prompts=negative_prompt,
        strength=strength,
        **options,
    )


def variation(
    image: Annotated[list[Path], _file_argument("FILE", "One or several files.")],
    prompt: ToldPrompt = None,
    **options: Any,
) -> Message:
    """Draw pictures like a picture."""
    return requests.variation(image, prompt=prompt, **options)


def control(
    hint: Hint,
    prompts: Prompts,
    image: FileOption = None,
    negative_prompt: Negatives = None,
    strength: Strength = None,
    prior_strength: PriorStrength = None,
    **options: Any,
) -> Message:
    """Draw pictures that keep to a control hint, such as a depth map; near is white."""
    return requests.control(
        hint,
        prompts,
        image=image,
        negative_prompts=negative_prompt,
        strength=strength,
        prior_strength=prior_strength,
        **options,
    )


def text_guided_edit(
    image: File,
    source: Annotated[str, typer.Option("--from", help="What the picture shows.")],
    target: Annotated[str, typer.Option("--to", help="What it shall show.")],
    amount: Annotated[float | None, typer.Option(help="How far to go, 0 to 1.")] = None,
    strength: Strength = None,
    prompt: ToldPrompt = None,
    **options: Any,
) -> Message:
    """Change a picture as two texts differ."""
    return requests.text_guided_edit(
        image, source, target, amount=amount, strength=strength, prompt=prompt, **options
    )


def moving(images: Sequence[Generated], output: Path) -> Sequence[Path]:
    """Writes one animation where the suffix is one's, else a file a frame."""
    if output.suffix.lower() not in SUFFIXES:
        return numbered(images, output)
    save_animation(images, output)
    return [output]


def register(app: typer.Typer) -> None:
    """Adds every command to the app."""
    for build in (
        text_to_image,
        mix,
        image_to_image,
        inpaint,
        outpaint,
        variation,
        control,
        text_guided_edit,
    ):
        app.command(build.__name__.replace("_", "-"))(flow(build))
    app.command("interpolate-frames")(flow(interpolate_frames, moving, moves=True))


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
        raise fail(f"{path} is no file")
    return path


def _end(text: str | None, file: Path | None, option: str) -> Condition:
    if (text is None) == (file is None):
        why = "give a prompt, or a picture with the same option and -image"
        raise typer.BadParameter(why, param_hint=option)
    return text if text is not None else file if file is not None else ""
