"""Puts measured tables into docs/benchmarks.md, between two comments that name each.

The figures with every round go to docs/benchmarks/, the plots to docs/images/. A page's tables are
made from those figures alone, so that nobody edits one by hand.
"""

import json
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "benchmarks"
PLOTS = ROOT / "docs" / "images"
BLOCK = re.compile(r"<!-- table: (?P<name>[a-z-]+) -->\n.*?<!-- end of table -->\n", re.DOTALL)
WIDTH = 100


def publish(figures: Path, plot: Path) -> None:
    """Takes a table's JSON and plot, as `benchmarks.report.write` left them, into docs/.

    Raises:
        LookupError: docs/benchmarks.md has no place for this table.
    """
    name = figures.stem
    if name not in published():
        raise LookupError(f"docs/benchmarks.md has no place for the table {name}")
    for folder in (FIGURES, PLOTS):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(figures, FIGURES / figures.name)
    shutil.copyfile(plot, PLOTS / plot.name)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(_filled, page), encoding="utf-8")


def published() -> list[str]:
    """Names of the tables that docs/benchmarks.md has a place for, in its order."""
    return [found["name"] for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


def block(content: Mapping[str, Any]) -> str:
    """What stands in the page for the content of a table's JSON file."""
    name, machine = content["table"], content["machine"]
    versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items())
    measured = (
        f"Measured on commit {machine['commit']}: {machine['cores']} cores, "
        f"{machine['processor']}, {machine['memory_gib']} GiB, networks on {machine['device']}, "
        f"load {machine['load']} before the start; {versions}. "
        f"[Every round](benchmarks/{name}.json)."
    )
    lines = [content["columns"], ["---"] * len(content["columns"]), *content["cells"]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"<!-- table: {name} -->\n![{name}](images/{name}.png)\n\n{table}\n\n"
        f"{textwrap.fill(content['note'], WIDTH)}\n\n{textwrap.fill(measured, WIDTH)}\n"
        "<!-- end of table -->\n"
    )


def _filled(found: re.Match[str]) -> str:
    figures = FIGURES / f"{found['name']}.json"
    if not figures.is_file():
        return found[0]
    return block(json.loads(figures.read_text(encoding="utf-8")))
