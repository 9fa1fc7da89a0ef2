"""The model families: name to import path of the declaration, loaded when used."""

import importlib
from collections.abc import Mapping

from kandinsky.catalog.family import FamilySpec

FAMILIES: Mapping[str, str] = {
    "kandinsky-2-1": "kandinsky.catalog.families.kandinsky_2_1:KANDINSKY_2_1",
    "kandinsky-2-2": "kandinsky.catalog.families.kandinsky_2_2:KANDINSKY_2_2",
    "kandinsky-3": "kandinsky.catalog.families.kandinsky_3:KANDINSKY_3",
    "karlo": "kandinsky.catalog.families.karlo:KARLO",
    "stable-diffusion-inpainting": (
        "kandinsky.catalog.families.stable_diffusion_inpainting:STABLE_DIFFUSION_INPAINTING"
    ),
    "versatile-diffusion": ("kandinsky.catalog.families.versatile_diffusion:VERSATILE_DIFFUSION"),
}


def family(name: str) -> FamilySpec:
    """The declaration of a family.

    Raises:
        LookupError: no family has that name.
    """
    if name not in FAMILIES:
        raise LookupError(f"unknown family {name!r}; there are {', '.join(sorted(FAMILIES))}")
    module, _, attribute = FAMILIES[name].partition(":")
    spec = getattr(importlib.import_module(module), attribute)
    if not isinstance(spec, FamilySpec):
        raise TypeError(f"{FAMILIES[name]} is not a FamilySpec")
    return spec
