"""`kandinsky generate`: any combination of guide, canvas and control hint."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kandinsky.cli.arguments import (
    Crop,
    FileOption,
    InterpolationOption,
    Negatives,
    PriorStrength,
    Strength,
    TextShare,
    WeightedFiles,
    WeightedTexts,
    file_option,
)
from kandinsky.cli.combination import CANVASES, GUIDES, chosen, embeddings
from kandinsky.client import requests
from kandinsky.v1.generation_pb2 import GenerateRequest

Texts = Annotated[list[str] | None, typer.Option(help="Guide by a prompt; repeat.")]
DecoderTexts = Annotated[
    list[str] | None, typer.Option(help="For a decoder that reads text; repeat.")
]
PriorNegatives = Annotated[
    list[str] | None, typer.Option(help="What prior runs steer away from; repeat.")
]
BesideImages = Annotated[
    list[Path] | None, file_option("Guide by prompts and this image at once; repeat.")
]
Variations = Annotated[list[Path] | None, file_option("Guide by an image to vary; repeat.")]
Edits = Annotated[list[Path] | None, file_option("Guide by an image to edit; repeat.")]
Embeds = Annotated[Path | None, file_option("Guide by embeddings [items, D], an npy file.")]
NegativeEmbeds = Annotated[Path | None, file_option("Negative embeddings, an npy file.")]
CanvasImages = Annotated[list[Path] | None, file_option("Start from an image; repeat.")]
Masks = Annotated[list[Path] | None, file_option("White is generated; repeat.")]
Hints = Annotated[list[Path] | None, file_option("Control hint, near is white; repeat.")]
Margin = Annotated[int | None, typer.Option(min=0, help="Continue the image by so many pixels.")]


def generate(
    prompt: Texts = None,
    beside_image: BesideImages = None,
    text_to_image_strength: TextShare = None,
    mix_text: WeightedTexts = None,
    mix_image: WeightedFiles = None,
    frames: Annotated[int | None, typer.Option(help="Guide by so many frames.")] = None,
    first: Annotated[str | None, typer.Option(help="Prompt of the first frame.")] = None,
    last: Annotated[str | None, typer.Option(help="Prompt of the last frame.")] = None,
    first_image: FileOption = None,
    last_image: FileOption = None,
    interpolation: InterpolationOption = None,
    variation: Variations = None,
    edit: Edits = None,
    source: Annotated[str | None, typer.Option("--from", help="What --edit shows.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="What the result shows.")] = None,
    amount: Annotated[float | None, typer.Option(help="How far to edit, 0 to 1.")] = None,
    embeds: Embeds = None,
    negative_embeds: NegativeEmbeds = None,
    canvas_image: CanvasImages = None,
    strength: Strength = None,
    mask: Masks = None,
    padding_mask_crop: Crop = None,
    top: Margin = None,
    bottom: Margin = None,
    left: Margin = None,
    right: Margin = None,
    hint: Hints = None,
    negative_prompt: Negatives = None,
    negative_prior_prompt: PriorNegatives = None,
    prior_strength: PriorStrength = None,
    decoder_prompt: DecoderTexts = None,
    **options: Any,
) -> GenerateRequest:
    """Generate images of any combination of guide, canvas and control hint.

    One guide: --prompt, alone or with --beside-image; --mix-text and --mix-image; --frames with
    --first and --last; --variation; --edit with --from and --to; --embeds.

    At most one canvas: --canvas-image; --mask; --top, --bottom, --left, --right. Without
    --canvas-image a canvas takes the images of --variation or --edit; so does --strength alone.
    """
    passed = {name: value for name, value in locals().items() if value not in (None, [])}
    guide = chosen(GUIDES, passed, required=True)
    negatives = None
    if negative_embeds is not None and embeds is None:  # with --embeds they are the guide's
        negatives = embeddings(negative_embeds)
    return requests.generate(
        guide,
        chosen(CANVASES, passed),
        hint,
        negative_prompts=negative_prompt,
        negative_image_embeds=negatives,
        prior_negative_texts=negative_prior_prompt,
        prior_strength=prior_strength,
        decoder_texts=decoder_prompt,
        **options,
    )
