"""A table's report: its rows, its JSON, its plot; and the standings of a contest."""

import asyncio
import importlib
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import attacks
from benchmarks.__main__ import TABLES
from benchmarks.contest import BARE, BATCHED, SERVED, Side, Turn, play, standings
from benchmarks.figures import Round
from benchmarks.load import Made, window
from benchmarks.machine import Machine
from benchmarks.report import Report, bars, cell, figures, heading, lines, write

MACHINE = Machine(2, "a processor", 24.0, "cpu", 0.1, {"python": "3.11"}, "abc1234")
ROWS = [
    {"side": "a", "open": 1, "images/s": 2.0, "rows": None},
    {"side": "a", "open": 8, "images/s": 4.56789, "rows": 2.0},
]
REPORTS = {
    "overhead": Report("Latency", ROWS, "How.", bars(ROWS, "side", "rows", 1.0), raw=[1]),
    "mixed": Report("Mixed", ROWS, "How.", lines(ROWS, "side", "open", "images/s")),
    "attacks": attacks.report(
        [
            {"attack": "none", "times idle": 1.0, "gateway, GiB": 0.3},
            {"attack": "masks", "times idle": 2.8, "gateway, GiB": 0.6},
        ]
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_writes_json_and_a_plot(name: str, tmp_path: Path) -> None:
    report = REPORTS[name]
    content, image = write(name, report, MACHINE, "shapes", tmp_path / "new")
    found = json.loads(content.read_text(encoding="utf-8"))
    assert found["table"] == name
    assert found["machine"]["cores"] == 2
    assert found["note"] == report.note
    assert found["rows"] == report.rows
    assert len(found["cells"]) == len(report.rows)
    assert content.name == f"{name}.json"
    assert image.name == f"{name}.png"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_a_report_prints_a_row_for_each_of_its_figures() -> None:
    table = REPORTS["mixed"].table()
    assert table.row_count == 2
    assert [column.header for column in table.columns] == list(ROWS[0])
    Console(quiet=True).print(table)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, ""),
        (3, "3"),
        ("x", "x"),
        (0.00284, "0.00284"),
        (1.0, "1.00"),
        (123.4, "123"),
        (1234.5, "1234"),
    ],
)
def test_figures_have_three_digits(value: object, word: str) -> None:
    assert cell(value) == word


def test_figures_by_name_are_a_row_each() -> None:
    assert figures({"refused": 3}) == [{"figure": "refused", "value": 3}]


def test_every_table_is_a_function() -> None:
    for place in TABLES.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_heading_names_machine_and_versions() -> None:
    assert heading(MACHINE).endswith("python 3.11")
    assert "2 cores" in heading(MACHINE)


def made(seconds: float, peak_rows: float | None = None) -> Round:
    """Two images that took all of a window."""
    return Round(seconds, ((0.0, seconds), (0.0, seconds)), peak_rows)


def side(kind: str, name: str, asked: list[tuple[str, int]] | None = None) -> Side:
    @asynccontextmanager
    async def ask(open_: int):
        async def answer(task: object) -> Made:
            if asked is not None:
                asked.append((name, open_))
            await asyncio.sleep(0.01)
            return Made(b"", 4)

        yield answer

    return Side(kind, name, ask, processes=int(kind is BARE))


SIDES = [side(BARE, "one"), side(BARE, "two"), side(BATCHED, "batching"), side(SERVED, "served")]
ROUNDS = {
    ("one", 1): [made(4.0), made(8.0)],
    ("two", 2): [made(1.0), made(2.0)],
    ("batching", 1): [made(2.0), made(4.0)],
    ("batching", 16): [made(0.4), made(0.8)],
    ("served", 1): [made(2.5), made(5.0)],
    ("served", 16): [made(0.5, 8), made(1.0, 8)],
}


def test_ratios_are_to_the_baselines_of_the_same_round() -> None:
    rows = {(row["side"], row["open"]): row for row in standings(SIDES, ROUNDS)}
    served = rows["served", 16]
    assert rows["two", 2]["times bare"] == pytest.approx(1.0)
    assert rows["served", 1]["times bare"] == pytest.approx(1.6)
    assert rows["served", 1]["p50 over bare"] == pytest.approx(0.625)
    assert served["times bare"] == pytest.approx(2.0)
    assert served["times batching"] == pytest.approx(0.8)
    assert served["p50 over batching"] == pytest.approx(1.25)
    assert served["peak rows"] == 8
    assert rows["batching", 16]["times batching"] is None
    assert rows["one", 1]["peak rows"] is None


def test_sides_take_turns_round_after_round() -> None:
    asked: list[tuple[str, int]] = []
    turns = [
        Turn(side(SERVED, name, asked), open_, [None], 0.01) for name, open_ in (("a", 1), ("b", 4))
    ]
    rounds = play(turns, 2, lambda _: None)
    assert set(asked) == {("a", 1), ("b", 4)}
    assert [name for name, _ in dict.fromkeys(asked)] == ["a", "b"]
    assert {key: len(found) for key, found in rounds.items()} == {("a", 1): 2, ("b", 4): 2}
    assert rounds["b", 4][0].peak_rows == 4


async def test_a_window_begins_with_as_many_images_as_are_open() -> None:
    async def ask(task: int) -> Made:
        await asyncio.sleep(0.01)
        return Made(b"", None)

    found = await window(ask, [1, 2, 3], 2, 0.05)
    assert found.seconds == 0.05
    assert sum(end <= 0 for _, end in found.spans) == 2
    assert max(begun for begun, _ in found.spans) < 0.05
    assert found.peak_rows is None
    assert found.images_a_second == pytest.approx(200, rel=0.5)


def test_attacks_are_held_by_both_bounds() -> None:
    def note(ratio: float, gib: float) -> str:
        return attacks.report([{"attack": "x", "times idle": ratio, "gateway, GiB": gib}]).note

    assert "; held in" in note(2.9, 1.9)
    assert "; NOT held" in note(3.1, 0.6)
    assert "; NOT held" in note(1.0, 2.1)
