"""docs/reference.md is what the contract and the families say today."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(reference) -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run `make docs`"


def test_every_file_of_the_contract_has_a_section(reference) -> None:
    named = {name for _, names in reference.FILES for name in names}
    assert named | {reference.ERRORS, "constraint"} == {
        path.stem for path in (ROOT / "protos/kandinsky/v1").glob("*.proto")
    }


def test_every_part_of_the_contract_says_what_it_is(reference) -> None:
    for file in reference.files().values():
        for i, message in enumerate(file.proto.message_type):
            assert file.comment(4, i), message.name
            for j, field in enumerate(message.field):
                assert file.comment(4, i, 2, j), f"{message.name}.{field.name}"
        for i, service in enumerate(file.proto.service):
            for j, method in enumerate(service.method):
                assert file.comment(6, i, 2, j), f"{service.name}.{method.name}"


def test_a_constraint_stands_in_the_page(reference) -> None:
    page = reference.page()
    assert "| `guidance_scale` | double | from 0, up to 100 |" in page
    assert "| `prompts` | list of string | required |" in page
    assert "one, or one an item" in page
