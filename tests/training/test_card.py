"""The tables of the model card are made from the figures beside it."""

import json
from pathlib import Path

import pytest

from training.shapes.card import CARD, FIGURES, NOT_MEASURED, record, with_tables

SHAPES = Path(__file__).parents[2] / "checkpoints" / "shapes"


def test_the_card_says_what_the_figures_say() -> None:
    card = (SHAPES / CARD).read_text(encoding="utf-8")
    figures = json.loads((SHAPES / FIGURES).read_text(encoding="utf-8"))
    assert {"prompts", "flows"} <= set(figures)
    assert with_tables(card, figures) == card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (CARD, FIGURES):
        (tmp_path / name).write_bytes((SHAPES / name).read_bytes())
    return tmp_path


def test_a_measurement_goes_into_figures_and_card_and_leaves_the_others(folder: Path) -> None:
    before = json.loads((folder / FIGURES).read_text())
    record(folder, "training", {"clip": 600, "movq": 90})
    assert json.loads((folder / FIGURES).read_text()) == {
        **before,
        "training": {"clip": 600, "movq": 90},
    }
    card = (folder / CARD).read_text()
    assert "| clip | 10 |\n| movq | 2 |" in card
    right = {"colour": 1, "background": 0.5, "shape": 0.123}
    record(folder, "flows", {"control": {"count": 8, **right, "overlap": 0.849}})
    changed = (folder / CARD).read_text()
    assert "held-out combinations | 8 | 100% | 50% | 12% | 85% |" in changed
    assert "| clip | 10 |" in changed
    assert "| variation" not in changed


def test_what_was_not_measured_is_said() -> None:
    card = (SHAPES / CARD).read_text(encoding="utf-8")
    assert with_tables(card, {}).count(NOT_MEASURED) == 3


def test_a_card_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places for prompts"):
        with_tables("# shapes", {})
