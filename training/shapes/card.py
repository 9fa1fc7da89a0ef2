"""The figures of a checkpoint, and the tables of its card that are made from them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIGURES, CARD = "figures.json", "README.md"
LANGUAGE_NAMES = {
    "all": "all",
    "en": "English",
    "ru": "Russian",
    "de": "German",
    "es": "Spanish",
    "zh": "Chinese",
}
FLOW_NAMES = {
    "inpaint": "inpaint: the box around the object, another object asked for",
    "inpaint by Stable Diffusion": "the same by `sd-inpaint`",
    "control": "control by a depth map, held-out combinations",
    "variation": "variation, held-out combinations",
    "text-guided edit": "text-guided edit to another colour, held-out combinations",
}
NOT_MEASURED = "Not measured for these weights."


def record(folder: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Put the figures of one measurement into a checkpoint's figures file and its card.

    Args:
        folder: of the checkpoint, with its card.
        name: of the measurement: `prompts`, `flows` or `training`.
        figures: as JSON.
    """
    file, card = folder / FIGURES, folder / CARD
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known[name] = figures
    file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    card.write_text(with_tables(card.read_text(encoding="utf-8"), known), encoding="utf-8")


def with_tables(card: str, figures: Mapping[str, Any]) -> str:
    """The card with each table between its markers made from the figures.

    Raises:
        ValueError: a pair of markers is missing.
    """
    for name, table in TABLES.items():
        made = table(figures[name]) if name in figures else NOT_MEASURED
        begin, end = f"<!-- begin {name}: written by training.shapes -->", f"<!-- end {name} -->"
        pattern = f"{re.escape(begin)}\n.*?{re.escape(end)}"
        text = f"{begin}\n{made}\n{end}"
        card, count = re.subn(pattern, lambda _, text=text: text, card, flags=re.S)
        if count != 1:
            raise ValueError(f"{count} places for {name} in the card")
    return card


def _prompts(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            LANGUAGE_NAMES[group],
            right["count"],
            *(f"{right[attribute]:.1%}" for attribute in ("colour", "background", "shape")),
        ]
        for group, right in figures.items()
    ]
    return _table(["prompts", "number", "colour", "background", "shape"], rows)


def _flows(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            FLOW_NAMES[flow],
            right["count"],
            *(f"{right[attribute]:.0%}" for attribute in ("colour", "background", "shape")),
            f"{right['overlap']:.0%}" if "overlap" in right else "",
        ]
        for flow, right in figures.items()
    ]
    return _table(
        ["flow", "number", "colour", "background", "shape", "overlap with the depth map"], rows
    )


def _training(figures: Mapping[str, Any]) -> str:
    rows = [[part, f"{seconds / 60:.0f}"] for part, seconds in figures.items()]
    return _table(["part", "minutes"], rows)


TABLES = {"prompts": _prompts, "flows": _flows, "training": _training}


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
