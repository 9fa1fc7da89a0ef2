"""What every replica does as it starts."""

import os
from pathlib import Path

import pytest
from torch._inductor.runtime.cache_dir_utils import cache_dir

from services.transport.replica import CACHE_VARIABLE, keep_compiled


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.delenv(CACHE_VARIABLE)


@pytest.mark.parametrize("asked_before", [False, True])
def test_compiled_code_is_kept_where_it_lasts(tmp_path: Path, asked_before: bool) -> None:
    if asked_before:
        cache_dir()  # sets the variable to a temporary folder
        assert CACHE_VARIABLE in os.environ
    keep_compiled()
    assert Path(cache_dir()) == tmp_path / "kandinsky-serve" / "compiled"


def test_a_folder_that_was_chosen_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    keep_compiled()
    assert Path(cache_dir()) == tmp_path / "mine"
