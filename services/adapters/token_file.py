"""Textual inversions of diffusers and of Automatic1111's web UI: a token and its embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch

from kandinsky.catalog.adapters import AdapterError
from services.adapters.whole import is_whole

LARGEST = 2**26
"""Bytes of a file."""
MOST_EMBEDDINGS = 75
"""A text's tokens beside the first and the last."""


@dataclass(frozen=True)
class LearnedToken:
    """A token of prompts, which the text encoder sees as one token or several."""

    token: str
    embeddings: torch.Tensor
    """[n, D]"""

    @property
    def tokens(self) -> list[str]:
        """One for each embedding; the first stands in prompts."""
        return [self.token, *(f"{self.token}_{i}" for i in range(1, len(self.embeddings)))]


def read(file: Path, token: str | None, width: int) -> LearnedToken:
    """What a file teaches a text encoder.

    Args:
        file: safetensors, or a pickle that holds tensors and plain values alone.
        token: that stands for it; None for what the file says.
        width: D, of the text encoder's embeddings.

    Raises:
        AdapterError: it is no such file, too large, or of another width.
    """
    named, embeddings = _read(file)
    known = token or named
    if known is None:
        raise AdapterError(f"{file.name} names no token; the manifest has to")
    if not known.strip() or known.split() != [known]:
        raise AdapterError(
            f"{file.name} names the token {known!r}; the manifest has to name another"
        )
    rows = embeddings.reshape(-1, embeddings.shape[-1]) if embeddings.dim() else embeddings
    if embeddings.dim() not in (1, 2) or rows.shape[-1] != width:
        shape = list(embeddings.shape)
        raise AdapterError(
            f"{file.name} holds embeddings {shape}; the text encoder's are {width} wide"
        )
    if not 1 <= len(rows) <= MOST_EMBEDDINGS:
        raise AdapterError(
            f"{file.name} holds {len(rows)} embeddings; the most is {MOST_EMBEDDINGS}"
        )
    if not rows.isfinite().all():
        raise AdapterError(f"{file.name} holds a value that is not finite")
    return LearnedToken(known, rows)


def _read(file: Path) -> tuple[str | None, torch.Tensor]:
    """The token that a file names, and its embeddings."""
    content = _load(file)
    if isinstance(content, torch.Tensor):
        token, embeddings = None, content
    elif isinstance(content, Mapping) and len(content) == 1:
        token, embeddings = next(iter(content.items()))
    elif isinstance(content, Mapping) and isinstance(content.get("string_to_param"), Mapping):
        token, embeddings = content.get("name"), content["string_to_param"].get("*")
    else:
        token, embeddings = None, None
    has_all = isinstance(embeddings, torch.Tensor) and is_whole(embeddings)
    if embeddings is None or not has_all or not isinstance(token, str | None):
        raise AdapterError(f"{file.name} holds no textual inversion")
    return token, embeddings.detach()


def _load(file: Path) -> Any:
    try:
        if file.stat().st_size > LARGEST:
            raise AdapterError(f"{file.name} is larger than {LARGEST >> 20} MiB")
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        return torch.load(file, "cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        UnpicklingError,
        safetensors.SafetensorError,
    ) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"{file.name} cannot be read as a textual inversion") from error
