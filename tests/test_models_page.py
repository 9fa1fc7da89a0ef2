"""docs/models.md is what the declarations and the contract say today."""

import importlib.util
from pathlib import Path

import pytest

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.families import FAMILIES, family
from kandinsky.v1 import generation_pb2

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models():
    spec = importlib.util.spec_from_file_location("models", ROOT / "docs" / "models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(models) -> None:
    assert models.PAGE.read_text(encoding="utf-8") == models.page(), "run `make docs`"


def test_it_has_every_family_and_model(models) -> None:
    page = models.page()
    assert all(family(name).title in page for name in FAMILIES)
    assert all(f"`{name}`" in page for name in Catalog.load().names)


def test_it_has_every_group_that_a_family_may_lack(models) -> None:
    groups = {sampler.group for name in FAMILIES for sampler in family(name).samplers}
    assert groups == models.GROUPS.keys()
    assert groups <= {*generation_pb2.GenerateRequest.DESCRIPTOR.fields_by_name}


@pytest.mark.parametrize(
    ("name", "group", "field", "taken"),
    [
        ("karlo", "super_resolution", "steps", "7"),
        ("kandinsky-2-2", "super_resolution", "steps", ""),
        ("karlo", "decoder", "scheduler", ""),
        ("kandinsky-2-2", "decoder", "texts", ""),
        ("kandinsky-2-1", "decoder", "texts", "yes"),
        ("kandinsky-3", "prior", "steps", ""),
        ("stable-diffusion-inpainting", "decoder", "free_u", "yes"),
    ],
)
def test_what_a_family_takes(models, name: str, group: str, field: str, taken: str) -> None:
    assert models.takes(family(name), group, field) == taken
