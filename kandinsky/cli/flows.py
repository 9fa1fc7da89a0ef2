"""The commands of the named flows: a function a flow, each making the flow's request."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kandinsky.cli.arguments import (
    Crop,
    DecoderPrompt,
    File,
    FileOption,
    Hint,
    InterpolationOption,
    Margin,
    Mask,
    Negative,
    NegativePrior,
    Negatives,
    PriorStrength,
    Prompts,
    Strength,
    TextShare,
    WeightedFiles,
    WeightedTexts,
    file_argument,
    frame_source,
    weighted,
)
from kandinsky.cli.command import command
from kandinsky.client import requests
from kandinsky.v1.generation_pb2 import GenerateRequest


def text_to_image(
    prompts: Prompts, negative_prompt: Negatives = None, **options: Any
) -> GenerateRequest:
    """Generate images from prompts. Several go to OUTPUT-0, OUTPUT-1 and so on."""
    return requests.text_to_image(prompts, negative_prompts=negative_prompt, **options)


def mix(
    text: WeightedTexts = None,
    image: WeightedFiles = None,
    interpolation: InterpolationOption = None,
    negative_prompt: Negative = None,
    negative_prior_prompt: NegativePrior = None,
    prompt: DecoderPrompt = None,
    **options: Any,
) -> GenerateRequest:
    """Blend texts and images by weight, such as --text "0.6:a red circle" --image 0.4:cat.png."""
    return requests.mix(
        *weighted(text, image, ("--text", "--image")),
        interpolation=interpolation,
        negative_prompt=negative_prompt,
        negative_prior_prompt=negative_prior_prompt,
        prompt=prompt,
        **options,
    )


def interpolate_frames(
    frames: Annotated[int, typer.Option(help="Frames, first and last included.")],
    first: Annotated[str | None, typer.Option(help="Prompt of the first frame.")] = None,
    last: Annotated[str | None, typer.Option(help="Prompt of the last frame.")] = None,
    first_image: FileOption = None,
    last_image: FileOption = None,
    interpolation: InterpolationOption = None,
    negative_prompt: Negative = None,
    negative_prior_prompt: NegativePrior = None,
    prompt: DecoderPrompt = None,
    **options: Any,
) -> GenerateRequest:
    """Generate frames from one text or image to another; a .gif or .webp output is animated."""
    return requests.interpolate_frames(
        frame_source(first, first_image, "--first"),
        frame_source(last, last_image, "--last"),
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
) -> GenerateRequest:
    """Generate images that start from an image."""
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
    padding_mask_crop: Crop = None,
    **options: Any,
) -> GenerateRequest:
    """Generate the part of an image that is white in a mask."""
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
) -> GenerateRequest:
    """Continue an image past its edges."""
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
    image: Annotated[list[Path], file_argument("FILE", "One or several files.")],
    prompt: DecoderPrompt = None,
    **options: Any,
) -> GenerateRequest:
    """Generate images like an image."""
    return requests.variation(image, prompt=prompt, **options)


def dual_guided(
    image: File,
    prompts: Prompts,
    text_to_image_strength: TextShare = None,
    negative_prompt: Negatives = None,
    **options: Any,
) -> GenerateRequest:
    """Generate images that prompts and an image guide at once."""
    return requests.dual_guided(
        prompts,
        image,
        text_to_image_strength=text_to_image_strength,
        negative_prompts=negative_prompt,
        **options,
    )


def control(
    hint: Hint,
    prompts: Prompts,
    image: FileOption = None,
    negative_prompt: Negatives = None,
    strength: Strength = None,
    prior_strength: PriorStrength = None,
    **options: Any,
) -> GenerateRequest:
    """Generate images that keep to a control hint, such as a depth map."""
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
    source: Annotated[str, typer.Option("--from", help="What the image shows.")],
    target: Annotated[str, typer.Option("--to", help="What the result shows.")],
    amount: Annotated[float | None, typer.Option(help="How far to go, 0 to 1.")] = None,
    strength: Strength = None,
    prompt: DecoderPrompt = None,
    **options: Any,
) -> GenerateRequest:
    """Change an image as two texts differ."""
    return requests.text_guided_edit(
        image, source, target, amount=amount, strength=strength, prompt=prompt, **options
    )


def register(app: typer.Typer) -> None:
    """Add every command to the app."""
    for build in (
        text_to_image,
        mix,
        interpolate_frames,
        image_to_image,
        inpaint,
        outpaint,
        variation,
        dual_guided,
        control,
        text_guided_edit,
    ):
        app.command(build.__name__.replace("_", "-"))(command(build))
