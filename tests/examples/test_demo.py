"""What the demo claims of its prompts, and that its font can write them."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from training.shapes.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    LANGUAGES,
    SHAPES,
    SIZES,
    Scene,
    caption,
    is_held_out,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module", autouse=True)
def _examples_are_importable():
    """`python examples/demo.py` puts that folder first on the path; so does this."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def prompts():
    return importlib.import_module("prompts").PROMPTS


@pytest.fixture
def contact_sheet():
    return importlib.import_module("contact_sheet")


def test_there_are_eight_prompts_in_five_languages(prompts) -> None:
    assert len(prompts) >= 8
    assert {prompt.language for prompt in prompts} == {
        *("English", "Russian", "German", "Chinese", "Spanish")
    }


def test_a_dot_marks_what_training_never_showed(prompts) -> None:
    """`meaning` reads "big red circle on white"; one without a colour is of many combinations."""
    for prompt in prompts:
        meaning = re.fullmatch(r"(?:big )?(?:(\w+) )?(\w+) on (\w+)", prompt.meaning)
        assert meaning, prompt.meaning
        colour, shape, background = meaning.groups()
        assert shape in SHAPES
        assert background in BACKGROUNDS
        if colour is None:
            assert not prompt.unseen
        else:
            assert prompt.unseen == is_held_out(colour, shape, background), prompt.meaning


def test_the_font_can_write_every_caption(prompts, contact_sheet) -> None:
    known = TTFont(contact_sheet.FONT).getBestCmap()
    captions = [prompt.text for prompt in prompts]
    captions += [
        caption(Scene(shape, colour, background, size), language, phrasing)
        for shape in SHAPES
        for colour in (*COLOURS, None)
        for background in (*BACKGROUNDS, None)
        for size in SIZES
        for language in LANGUAGES
        for phrasing in range(3)
    ]
    assert not {letter for line in captions for letter in line if ord(letter) not in known}


def test_the_font_can_write_every_flow(contact_sheet) -> None:
    known = TTFont(contact_sheet.FONT).getBestCmap()
    written = (EXAMPLES / "flows.py").read_text(encoding="utf-8")
    assert not {letter for letter in written if letter != "\n" and ord(letter) not in known}


def test_a_sheet_holds_every_image_unclipped(contact_sheet) -> None:
    red = Image.new("RGB", (32, 32), "red")
    captioned = [contact_sheet.Captioned(red, "一个红色圆形 ein Kreis", ("seed 1",))] * 7
    rows = [contact_sheet.Row(title, tuple(captioned)) for title in ("", "Inpaint")]
    sheet = contact_sheet.draw_sheet(rows, "Title", "A subtitle")
    shown = sum(count for count, colour in sheet.getcolors(1 << 24) if colour == (255, 0, 0))
    assert shown == 14 * (32 * contact_sheet.SCALE) ** 2
