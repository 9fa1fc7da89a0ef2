"""A folder of adapters is what its manifest says now."""

import os
from pathlib import Path

import pytest

from kandinsky.catalog.adapters import MANIFEST, AdapterError, AdapterFolder
from kandinsky.catalog.catalog import read_entry
from kandinsky.catalog.entry import CatalogError


def write(folder: Path, text: str, age: int) -> None:
    """A manifest of that age in seconds, so that each differs from the one before."""
    (folder / MANIFEST).write_text(text)
    os.utime(folder / MANIFEST, (10**9 - age, 10**9 - age))


def test_it_follows_its_manifest(tmp_path: Path) -> None:
    folder = AdapterFolder(tmp_path)
    assert not folder.adapters
    write(tmp_path, "a: {file: a.safetensors}", age=3)
    assert [*folder.adapters] == ["a"]
    write(tmp_path, "a: {file: a.safetensors}\nb: {file: x/b.safetensors}", age=2)
    assert [*folder.adapters] == ["a", "b"]
    (tmp_path / MANIFEST).unlink()
    assert not folder.adapters


def test_a_file_that_has_changed_is_another(tmp_path: Path) -> None:
    write(tmp_path, "a: {file: a.safetensors}", age=0)
    (tmp_path / "a.safetensors").write_bytes(b"one")
    folder = AdapterFolder(tmp_path)
    before = folder.file("a")
    (tmp_path / "a.safetensors").write_bytes(b"other")
    assert folder.file("a") != before


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "a: {file: [",
        "a: {file: ../a.safetensors}",
        "a: {file: /a.safetensors}",
        "a: {file: a.bin}",
        "a: {file: a.safetensors, kind: wings}",
        "'a b': {file: a.safetensors}",
    ],
)
def test_a_manifest_that_is_wrong_is_one_sentence(tmp_path: Path, text: str) -> None:
    write(tmp_path, text, age=0)
    with pytest.raises(AdapterError, match=MANIFEST):
        _ = AdapterFolder(tmp_path).adapters


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, "a: {file: a.safetensors}", age=0)
    folder = AdapterFolder(tmp_path)
    with pytest.raises(AdapterError, match="'b' is no adapter of this model; it has a"):
        folder.file("b")
    with pytest.raises(AdapterError, match="the file of adapter a is missing"):
        folder.file("a")


ENTRY = """\
name: ours
description: A model.
family: {family}
adapters: adapters
stages:
  encoders: {{weights: {{folder: x}}}}
  {more}
  decoder: {{weights: {{folder: x}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
"""


def test_an_entry_names_the_folder_from_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(ENTRY.format(family="stable-diffusion-inpainting", more=""))
    assert read_entry(path).adapters == tmp_path / "adapters"


def test_a_family_without_adapters_refuses_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(ENTRY.format(family="kandinsky-2-2", more="prior: {weights: {folder: x}}"))
    with pytest.raises(CatalogError, match=r"adapters: Kandinsky 2\.2 takes no adapters"):
        read_entry(path)
