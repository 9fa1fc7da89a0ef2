"""The tiny checkpoints of every family: its name to the module that builds them."""

import importlib
from collections.abc import Mapping
from types import ModuleType

TINY: Mapping[str, str] = {
    "kandinsky-2-1": "tests.tiny_2_1",
    "kandinsky-2-2": "tests.tiny",
    "kandinsky-3": "tests.tiny_3",
    "karlo": "tests.tiny_karlo",
    "stable-diffusion-inpainting": "tests.tiny_sd_inpaint",
    "versatile-diffusion": "tests.tiny_versatile",
}
"""Each module has `build`, which writes the checkpoints, and `write_catalog`, which writes the
entry of the model `tiny`."""


def module(family: str) -> ModuleType:
    """The module of a family."""
    return importlib.import_module(TINY[family])
