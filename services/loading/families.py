"""Finding a stage's family by its name in the catalog."""

import importlib
from collections.abc import Mapping
from typing import Any


def load(registry: Mapping[str, str], name: str) -> Any:
    """The class that a stage's registry names for a family, imported now.

    Args:
        registry: family name to `module:Class`.
        name: the catalog entry's family.

    Raises:
        LookupError: the stage has no such family.
    """
    if name not in registry:
        raise LookupError(f"no family {name!r}; this stage knows {', '.join(sorted(registry))}")
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
