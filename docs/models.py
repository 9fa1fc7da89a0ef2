"""Write docs/models.md: what each family takes, from the declarations and the contract.

python docs/models.py, which `make docs` runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogEntry, HubCheckpoint, SharedStage
from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import (
    OPTIONS,
    AdapterKind,
    CanvasKind,
    FamilySpec,
    GuideKind,
    SamplerSpec,
)
from kandinsky.v1 import settings_pb2

PAGE = Path(__file__).parent / "models.md"
GROUPS: dict[str, Descriptor] = {
    "prior": settings_pb2.PriorSettings.DESCRIPTOR,
    "decoder": settings_pb2.DecoderSettings.DESCRIPTOR,
    "super_resolution": settings_pb2.SuperResolutionSettings.DESCRIPTOR,
}
"""The settings groups that a family may lack."""
YES, NO = "yes", ""
HEAD = """\
# Models

Generated from the families' declarations and the contract by `make docs`. A request that asks for
what its model has not is refused with a sentence that names the field, before any work.
"""


def page() -> str:
    """The whole page."""
    return "\n".join((HEAD, *_families(), *_built_in()))


def _families() -> Iterator[str]:
    specs = [family(name) for name in FAMILIES]
    yield "## Families\n"
    yield "A settings field beside which a number stands has that default.\n"
    rows: list[tuple[str, ...]] = [("**guides**", *("" for _ in specs))]
    rows += [_row(kind, [kind in spec.guides for spec in specs]) for kind in GuideKind]
    rows.append(("**canvases**", *("" for _ in specs)))
    rows += [_row(kind, [kind in spec.canvases for spec in specs]) for kind in CanvasKind]
    control = [any(part.name == "hint" for part in _decoder(spec)) for spec in specs]
    rows.append(_row("control", control))
    for group, descriptor in GROUPS.items():
        rows.append((f"**{group}**", *("" for _ in specs)))
        for field in descriptor.fields:
            taken = tuple(takes(spec, group, field.name) for spec in specs)
            rows.append((f"`{group}.{field.name}`", *taken))
    rows.append(("**adapters**", *("" for _ in specs)))
    rows += [_row(kind, [kind in spec.adapters for spec in specs]) for kind in AdapterKind]
    rows.append(("**sizes**", *(f"multiples of {spec.size_multiple}" for spec in specs)))
    yield _table(("", *(spec.title for spec in specs)), rows)


def takes(spec: FamilySpec, group: str, field: str) -> str:
    """Whether a family takes a settings field: its default where it has one, else `yes`, or "".

    Args:
        spec: the family.
        group: of the settings.
        field: of the group.
    """
    sampler = spec.sampler(group)
    if sampler is None or not _is_taken(spec, sampler, field):
        return NO
    defaults = {"steps": sampler.steps, "guidance_scale": sampler.guidance_scale}
    return f"{defaults[field]:g}" if field in defaults else YES


def _is_taken(spec: FamilySpec, sampler: SamplerSpec, field: str) -> bool:
    if field in OPTIONS:
        return field in sampler.options
    if field in ("step_cache_interval", "preset"):
        return sampler.step_cache
    if field in ("scheduler", "eta"):
        return not sampler.fixed_scheduler
    if sampler.group == "decoder" and field in ("texts", "negative_texts"):
        return spec.decoder_reads_text
    return True


def _decoder(spec: FamilySpec) -> Any:
    return next(fields for stage, fields in spec.reads.items() if stage == "decoder")


def _built_in() -> Iterator[str]:
    yield "## Built-in models\n"
    catalog = Catalog.load()
    rows = [
        (
            f"`{entry.name}`",
            family(entry.family).title,
            f"{entry.size.height}×{entry.size.width}",
            ", ".join(entry.has_guides),
            ", ".join(entry.has_canvases),
            "<br>".join(_sources(entry)),
        )
        for entry in (catalog[name] for name in catalog.names)
    ]
    yield _table(("model", "family", "default size", "guides", "canvases", "from"), rows)


def _sources(entry: CatalogEntry) -> list[str]:
    """Where its checkpoints come from, each once."""
    found = []
    for home in entry.stages.values():
        if isinstance(home, SharedStage):
            found.append(f"model `{home.model}`")
            continue
        for checkpoint in home.checkpoints.values():
            is_hub = isinstance(checkpoint, HubCheckpoint)
            found.append(f"`{checkpoint.hub}`" if is_hub else "this repository")
    return list(dict.fromkeys(found))


def _row(name: str, has: list[bool]) -> tuple[str, ...]:
    return (f"`{name}`", *(YES if each else NO for each in has))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
