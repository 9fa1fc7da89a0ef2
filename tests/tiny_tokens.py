"""Writes textual inversions, as diffusers and Automatic1111's web UI have them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

WIDTH = 32
"""Of the tiny text encoder."""


def write(
    folder: Path,
    name: str,
    seed: int,
    *,
    form: str = "safetensors",
    count: int = 1,
    **declared: Any,
) -> Path:
    """Write random embeddings into a folder of adapters, and its manifest; returns the file.

    Args:
        folder: of adapters.
        name: of the adapter; its file says the token `<name>`.
        seed: of the embeddings.
        form: `safetensors` or `bin`, of diffusers, or `pt`, of Automatic1111.
        count: of embeddings.
        declared: further keys of the manifest.
    """
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    embeddings, token = torch.randn(count, WIDTH), f"<{name}>"
    file = folder / f"{name}.{form}"
    if form == "safetensors":
        save_file({token: embeddings}, file)
    elif form == "bin":
        torch.save({token: embeddings[0] if count == 1 else embeddings}, file)
    else:
        learned = {"string_to_token": {"*": 265}, "string_to_param": {"*": embeddings}}
        torch.save({**learned, "name": token, "step": 100, "sd_checkpoint": None}, file)
    keys = {"kind": "textual-inversion", "file": file.name, **declared}
    with (folder / "manifest.yaml").open("a") as manifest:
        manifest.write(f"{name}: {{{', '.join(f'{k}: {v!r}' for k, v in keys.items())}}}\n")
    return file
