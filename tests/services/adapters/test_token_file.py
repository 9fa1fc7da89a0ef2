"""Textual inversions are read from both programs' files; what is none is refused in a sentence."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kandinsky.catalog.adapters import AdapterError
from services.adapters import token_file

WIDTH = 8
VECTORS = torch.arange(3.0 * WIDTH).reshape(3, WIDTH)


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "word.pt")
    return folder / "word.pt"


def a1111(embeddings: Any, **more: Any) -> dict[str, Any]:
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": embeddings}, **more}


@pytest.mark.parametrize(
    ("content", "token", "count"),
    [
        ({"<word>": VECTORS[0]}, "<word>", 1),
        ({"<word>": VECTORS}, "<word>", 3),
        (a1111(torch.nn.Parameter(VECTORS), name="word", step=3), "word", 3),
    ],
)
def test_forms(tmp_path: Path, content: Any, token: str, count: int) -> None:
    found = token_file.read(saved(tmp_path, content), None, WIDTH)
    assert found.token == token
    torch.testing.assert_close(found.embeddings, VECTORS[:count])
    assert found.tokens == [token, f"{token}_1", f"{token}_2"][:count]


def test_safetensors_under_another_token(tmp_path: Path) -> None:
    save_file({"<word>": VECTORS}, tmp_path / "word.safetensors")
    assert token_file.read(tmp_path / "word.safetensors", "<mine>", WIDTH).token == "<mine>"


REFUSED: dict[str, tuple[Any, str]] = {
    "no token": (VECTORS, "names no token"),
    "no token in the web UI's form": (a1111(VECTORS), "names no token"),
    "two": ({"a": VECTORS, "b": VECTORS}, "holds no textual inversion"),
    "something else": ({"a": 1}, "holds no textual inversion"),
    "a list": ([VECTORS], "holds no textual inversion"),
    "a token of two words": ({"a b": VECTORS}, "names the token 'a b'"),
    "an empty token": ({"": VECTORS}, "names"),
    "another width": ({"a": VECTORS[:, :4]}, "the text encoder's are 8 wide"),
    "too many axes": ({"a": VECTORS[None]}, "the text encoder's are 8 wide"),
    "a number": ({"a": torch.tensor(1.0)}, "the text encoder's are 8 wide"),
    "none": ({"a": VECTORS[:0]}, "holds 0 embeddings; the most is 75"),
    "too many": ({"a": VECTORS.repeat(30, 1)}, "holds 90 embeddings; the most is 75"),
    "not finite": ({"a": VECTORS * torch.nan}, "not finite"),
    "integers": ({"a": VECTORS.long()}, "holds no textual inversion"),
    "one value that stands for many": (
        {"a": torch.zeros(1).expand(2**30, WIDTH)},
        "holds no textual inversion",
    ),
    "without values": ({"a": VECTORS.to("meta")}, "holds no textual inversion"),
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_none_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(AdapterError, match=sentence):
        token_file.read(saved(tmp_path, content), None, WIDTH)


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("attacked"),))


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", pickle.dumps(_Attack())])
def test_a_pickle_runs_nothing(tmp_path: Path, content: bytes, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "word.bin").write_bytes(content)
    with pytest.raises(AdapterError, match="cannot be read as a textual inversion"):
        token_file.read(tmp_path / "word.bin", None, WIDTH)
    assert not (tmp_path / "attacked").exists()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "word.pt").open("wb") as file:
        file.truncate(token_file.LARGEST + 1)
    with pytest.raises(AdapterError, match="larger than 64 MiB"):
        token_file.read(tmp_path / "word.pt", None, WIDTH)
