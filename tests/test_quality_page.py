"""docs/quality.md names the presets as they are, and its table is that of the figures beside it."""

import json
from pathlib import Path

import pytest

from kandinsky.catalog.presets import PRESETS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
FIGURES = json.loads((ROOT / "docs" / "quality.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_says_what_a_preset_is(name: str) -> None:
    [line] = [each for each in PAGE.splitlines() if each.startswith(f"| `{name}`")]
    low, high = PRESETS[name].guidance_interval
    assert line.endswith(f"| {low:g} to {high:g} | {PRESETS[name].step_cache_interval} |")


def test_every_preset_is_one_of_the_measured_settings() -> None:
    measured = [
        (tuple(each["guidance_interval"]), each["step_cache_interval"])
        for each in FIGURES["settings"].values()
    ]
    for preset in PRESETS.values():
        assert (preset.guidance_interval, preset.step_cache_interval) in measured


def test_the_table_is_that_of_the_figures() -> None:
    assert FIGURES["prompts"] >= 500
    for row in FIGURES["rows"]:
        [line] = [each for each in PAGE.splitlines() if each.startswith(f"| {row['setting']} |")]
        assert f"| {row['colour']:.1%} | {row['background']:.1%} | {row['shape']:.1%} |" in line
        assert f"| {row['saved']:.0%} |" in line
