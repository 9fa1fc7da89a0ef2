"""docs/benchmarks.md holds what the committed figures say, and nothing else."""

import json
from pathlib import Path

import pytest

from benchmarks import publish
from benchmarks.__main__ import TABLES
from benchmarks.report import write
from tests.benchmarks.test_report import MACHINE, REPORTS

PAGE = """# Benchmarks

<!-- table: overhead -->
<!-- end of table -->

<!-- table: hops -->
an older table
<!-- end of table -->
"""


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "benchmarks.md").write_text(PAGE)
    monkeypatch.setattr(publish, "PAGE", docs / "benchmarks.md")
    monkeypatch.setattr(publish, "FIGURES", docs / "benchmarks")
    monkeypatch.setattr(publish, "PLOTS", docs / "images")
    return docs


def test_a_published_table_stands_in_its_place_with_figures_and_plot(docs, tmp_path) -> None:
    figures, plot = write("overhead", REPORTS["overhead"], MACHINE, "shapes", tmp_path / "out")
    publish.publish(figures, plot)
    page = (docs / "benchmarks.md").read_text()
    content = json.loads((docs / "benchmarks" / "overhead.json").read_text())
    assert publish.block(content) in page
    assert f"| {' | '.join(content['columns'])} |" in page
    assert all(f"| {' | '.join(row)} |" in page for row in content["cells"])
    assert "commit abc1234" in page
    assert "an older table" in page  # of which no figures were published
    assert (docs / "images" / "overhead.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_without_a_place_is_refused(docs, tmp_path) -> None:
    figures, plot = write("mixed", REPORTS["mixed"], MACHINE, "shapes", tmp_path / "out")
    with pytest.raises(LookupError, match="no place for the table mixed"):
        publish.publish(figures, plot)


def test_every_table_has_a_place_in_the_page() -> None:
    assert sorted(publish.published()) == sorted([*TABLES, "full-size"])


@pytest.mark.parametrize(
    "figures", sorted(publish.FIGURES.glob("*.json")), ids=lambda one: one.stem
)
def test_the_pages_tables_are_those_of_the_committed_figures(figures: Path) -> None:
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert publish.block(content) in publish.PAGE.read_text(encoding="utf-8")
