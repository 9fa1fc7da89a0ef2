"""Which guide and which canvas the options of `generate` name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import typer

from kandinsky.cli.arguments import frame_source, weighted
from kandinsky.cli.errors import fail
from kandinsky.client import canvases, guides
from kandinsky.client.canvases import Canvas
from kandinsky.client.guides import Guide
from kandinsky.wire.tensors import Array

Message = TypeVar("Message")
Passed = Mapping[str, Any]
"""Options that the user passed, by name."""


@dataclass(frozen=True)
class Kind(Generic[Message]):
    """A kind of guide or of canvas, and the options that belong to it."""

    chosen_by: tuple[str, ...]
    """Options of which each chooses the kind."""
    build: Callable[[Passed], Message]
    also: tuple[str, ...] = ()
    """Further options that it takes."""


def _frames(passed: Passed) -> Guide:
    return guides.interpolation(
        frame_source(passed.get("first"), passed.get("first_image"), "--first"),
        frame_source(passed.get("last"), passed.get("last_image"), "--last"),
        passed["frames"],
        interpolation=passed.get("interpolation"),
    )


def _mix(passed: Passed) -> Guide:
    sources = weighted(
        passed.get("mix_text"), passed.get("mix_image"), ("--mix-text", "--mix-image")
    )
    return guides.mix(*sources, interpolation=passed.get("interpolation"))


def _edit(passed: Passed) -> Guide:
    if missing := {"source", "target"} - passed.keys():
        raise typer.BadParameter(f"--edit needs {' and '.join(sorted(map(_flag, missing)))}")
    return guides.text_diff(
        passed["edit"], passed["source"], passed["target"], amount=passed.get("amount")
    )


def _embeddings(passed: Passed) -> Guide:
    negatives = passed.get("negative_embeds")
    return guides.image_embeds(
        embeddings(passed["embeds"]), None if negatives is None else embeddings(negatives)
    )


def _prompts(passed: Passed) -> Guide:
    share = passed.get("text_to_image_strength")
    if "beside_image" in passed:
        beside = passed["beside_image"]
        return guides.text_and_image(passed["prompt"], beside, text_to_image_strength=share)
    if share is not None:
        raise typer.BadParameter("needs --beside-image", param_hint="--text-to-image-strength")
    return guides.text(passed["prompt"])


GUIDES: tuple[Kind[Guide], ...] = (
    Kind(("prompt",), _prompts, ("beside_image", "text_to_image_strength")),
    Kind(("mix_text", "mix_image"), _mix, ("interpolation",)),
    Kind(("frames",), _frames, ("first", "last", "first_image", "last_image", "interpolation")),
    Kind(("variation",), lambda passed: guides.image(passed["variation"])),
    Kind(("edit",), _edit, ("source", "target", "amount")),
    Kind(("embeds",), _embeddings),
)
_MARGINS = ("top", "bottom", "left", "right")
CANVASES: tuple[Kind[Canvas], ...] = (
    Kind(
        ("mask",),
        lambda passed: canvases.inpaint(
            passed["mask"],
            passed.get("canvas_image"),
            strength=passed.get("strength"),
            padding_mask_crop=passed.get("padding_mask_crop"),
        ),
        ("canvas_image", "strength", "padding_mask_crop"),
    ),
    Kind(
        _MARGINS,
        lambda passed: canvases.outpaint(
            passed.get("canvas_image"),
            strength=passed.get("strength"),
            **{side: passed[side] for side in _MARGINS if side in passed},
        ),
        ("canvas_image", "strength"),
    ),
    Kind(
        ("canvas_image", "strength"),
        lambda passed: canvases.image(passed.get("canvas_image"), strength=passed.get("strength")),
    ),
)
"""In this order: an image beside a mask or margins is theirs."""


@overload
def chosen(
    kinds: tuple[Kind[Message], ...], passed: Passed, *, required: Literal[True]
) -> Message: ...
@overload
def chosen(kinds: tuple[Kind[Message], ...], passed: Passed) -> Message | None: ...
def chosen(
    kinds: tuple[Kind[Message], ...], passed: Passed, *, required: bool = False
) -> Message | None:
    """The guide or the canvas that the options choose; None where they choose none.

    Raises:
        typer.BadParameter: they choose none that is required, or belong to two kinds.
    """
    own = {name for each in kinds for name in (*each.chosen_by, *each.also)}
    given = [name for name in passed if name in own]
    matching = [each for each in kinds if passed.keys() & {*each.chosen_by}]
    if not matching:
        if required or given:
            ways = ", ".join(" or ".join(map(_flag, each.chosen_by)) for each in kinds)
            raise typer.BadParameter(f"pass one of {ways}", param_hint=_hint(given))
        return None
    kind = matching[0]
    for name in given:
        if name not in (*kind.chosen_by, *kind.also):
            leader = next(each for each in kind.chosen_by if each in passed)
            raise typer.BadParameter(f"does not go with {_flag(leader)}", param_hint=_flag(name))
    return kind.build(passed)


def embeddings(file: Path) -> Array:
    """Embeddings [items, D] of an npy file; [D] is one item.

    Raises:
        typer.Exit: the file holds something else.
    """
    try:
        array: Array = np.atleast_2d(np.load(file, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise fail(f"{file} cannot be read as an npy file: {error}") from error
    if array.ndim != 2:
        raise fail(f"{file} holds the shape {list(array.shape)}; it must be [items, D]")
    return array


def _flag(name: str) -> str:
    return {"source": "--from", "target": "--to"}.get(name, f"--{name.replace('_', '-')}")


def _hint(names: list[str]) -> str | None:
    return _flag(names[0]) if names else None
