"""The walk-through of docs/adding-a-model.md shows the files of the family that it adds."""

import re
from pathlib import Path

import pytest

from kandinsky.catalog.family import FamilySpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adding-a-model.md").read_text(encoding="utf-8")
WALK_THROUGH = PAGE[PAGE.index("## A new family") :]
SHOWN = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", WALK_THROUGH, re.DOTALL)


@pytest.mark.parametrize(("path", "lines"), SHOWN)
def test_what_it_shows_stands_in_the_file(path: str, lines: str) -> None:
    assert lines in (ROOT / path).read_text(encoding="utf-8")


def test_every_block_names_its_file() -> None:
    assert len(SHOWN) == WALK_THROUGH.count("```") // 2 >= 8


def test_every_file_that_it_names_exists() -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|yaml|md))`", WALK_THROUGH)
    assert len(named) > 15
    for path in named:
        assert path == "families/__init__.py" or (ROOT / path).is_file(), path


def test_it_explains_what_a_declaration_says() -> None:
    [table] = re.findall(r"\| field \| what follows.*?\n\n", WALK_THROUGH, re.DOTALL)
    explained = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row[:40])}
    declared = {*FamilySpec.__dataclass_fields__} - {"name", "title"}
    assert declared <= explained
