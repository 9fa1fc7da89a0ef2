"""A folder of adapters is what its manifest says now."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from kandinsky.catalog.adapters import MANIFEST, Adapter, AdapterError, AdapterFolder, is_name
from kandinsky.catalog.catalog import read_entry
from kandinsky.catalog.entry import CatalogError
from kandinsky.catalog.family import AdapterKind

ONE = Adapter(file="one.safetensors")
WORD = Adapter(kind=AdapterKind.TEXTUAL_INVERSION, file="word.pt", token="<word>")


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
    adapter = folder.named("a")
    before = folder.version(adapter)
    (tmp_path / "a.safetensors").write_bytes(b"other")
    assert folder.version(adapter) != before


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "a: {file: [",
        "a: {file: ../a.safetensors}",
        "a: {file: /a.safetensors}",
        "a: {file: a.bin}",
        "a: {file: a.safetensors, token: x}",
        "a: {file: a.ckpt, kind: textual-inversion}",
        "a: {file: a.pt, kind: textual-inversion, token: x y}",
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
    with pytest.raises(AdapterError, match="is no adapter of this model; it has a"):
        folder.named("b")
    with pytest.raises(AdapterError, match=r"the file a\.safetensors is missing"):
        folder.version(folder.named("a"))


def test_names_are_given_and_taken_away(tmp_path: Path) -> None:
    folder, elsewhere = AdapterFolder(tmp_path), AdapterFolder(tmp_path)
    folder.put("a", ONE)
    folder.put("b", WORD)
    assert elsewhere.adapters == {"a": ONE, "b": WORD}
    elsewhere.remove("a")
    assert folder.adapters == {"b": WORD}


def test_a_name_is_given_once(tmp_path: Path) -> None:
    folder = AdapterFolder(tmp_path)
    folder.put("a", ONE)
    folder.put("a", ONE)
    with pytest.raises(AdapterError, match=r"is taken by one\.safetensors; unload that first"):
        folder.put("a", WORD)
    with pytest.raises(AdapterError, match="is no adapter of this model; it has a"):
        folder.remove("b")
    assert folder.adapters == {"a": ONE}


def test_names_that_many_processes_give_are_all_there(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        list(pool.map(_give, [tmp_path] * 16, range(16)))
    assert sorted(AdapterFolder(tmp_path).adapters) == sorted(f"a{i}" for i in range(16))


def _give(folder: Path, index: int) -> None:
    AdapterFolder(folder).put(f"a{index}", ONE)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="cannot be written into the manifest: No such file"):
        AdapterFolder(tmp_path / "nowhere").put("a", ONE)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1.b_c", True),
        ("", False),
        ("-a", False),
        ("a/b", False),
        ("a\n", False),
        ("x" * 129, False),
    ],
)
def test_a_name_is_letters_and_digits(name: str, fits: bool) -> None:
    assert is_name(name) is fits


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
