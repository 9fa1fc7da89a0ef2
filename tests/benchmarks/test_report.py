"""Every table's report: its rows, its JSON, its plot."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.contest import Kind, Rounds, Side, Turn, fastest, play
from benchmarks.figures import Round
from benchmarks.hops import HOPS, QUICK, Hops
from benchmarks.hops import Row as HopRow
from benchmarks.load import Made, ServedRound
from benchmarks.machine import Machine
from benchmarks.mixed import Mixed
from benchmarks.overhead import Overhead
from benchmarks.report import heading, write
from benchmarks.setup import Report
from benchmarks.standings import Standings
from benchmarks.tables import TABLES
from benchmarks.throughput import Throughput
from benchmarks.workload import mixed

MACHINE = Machine(2, "a processor", 24.0, "cpu", 0.1, {"python": "3.11"})


def bare(seconds: float) -> Round:
    return Round(seconds, (seconds / 2, seconds / 2))


def served(seconds: float, peak_rows: int = 4) -> ServedRound:
    made = Made(b"", forwards=10, shared_forwards=5, peak_rows=peak_rows)
    return ServedRound(seconds, (seconds, seconds), (made, made))


def never(pictures: object, concurrency: int) -> Round:
    raise AssertionError("a report asks nobody for pictures")


SIDES = [
    Side(Kind.BARE, "bare, 1 thread(s)", never),
    Side(Kind.BARE, "bare, 2 thread(s)", never),
    Side(Kind.BATCHED, "request batching", never),
    Side(Kind.SERVED, "served", never),
]
ROUNDS: Rounds = {
    ("bare, 1 thread(s)", 1): [bare(4.0), bare(8.0)],
    ("bare, 2 thread(s)", 1): [bare(2.0), bare(4.0)],
    ("request batching", 1): [served(2.0), served(4.0)],
    ("request batching", 16): [served(1.0), served(2.0)],
    ("served", 1): [served(2.5), served(5.0)],
    ("served", 16): [served(0.5, 8), served(1.0, 8)],
}
STANDINGS = Standings(SIDES, ROUNDS)
HOP_ROWS = [HopRow(hop, 3.0, 1.0, 3.0, [3.0], [1.0]) for hop in HOPS]
REPORTS: dict[str, Report] = {
    "overhead": Overhead(STANDINGS, 1),
    "throughput": Throughput(STANDINGS, "1 thread(s)", {"served": 1}, 0.05),
    "mixed": Mixed(STANDINGS, mixed(6), "1 thread(s)", {"served": 1}),
    "hops": Hops(HOP_ROWS, QUICK),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_writes_json_and_a_plot(name: str, tmp_path: Path) -> None:
    report = REPORTS[name]
    figures, picture = write(name, report, MACHINE, "shapes", tmp_path / "new")
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert content["table"] == name
    assert content["machine"]["cores"] == 2
    assert content["note"] == report.note()
    assert content["rows"]
    assert figures.name == f"{name}.json"
    assert picture.name == f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_prints_a_row_for_each_of_its_figures(name: str) -> None:
    table = REPORTS[name].table()
    expected = {"overhead": 6, "throughput": 6, "mixed": 6, "hops": len(HOPS)}
    assert table.row_count == expected[name]
    Console(quiet=True).print(table)


def test_the_tables_are_modules_with_a_measure() -> None:
    assert set(REPORTS) <= set(TABLES)
    for name in REPORTS:
        assert type(REPORTS[name]).__module__ == TABLES[name]


def test_ratios_are_to_the_faster_bare_side_and_to_batching_at_the_same_concurrency() -> None:
    assert STANDINGS.baseline.name == "bare, 2 thread(s)"
    rows = {(row.side, row.concurrency): row for row in STANDINGS.rows()}
    assert rows["bare, 1 thread(s)", 1].over_bare == pytest.approx(0.5)
    assert rows["bare, 1 thread(s)", 1].over_batched is None
    assert rows["request batching", 16].over_batched is None
    assert rows["served", 1].over_bare == pytest.approx(0.8)
    assert rows["served", 1].over_batched == pytest.approx(0.8)
    assert rows["served", 16].over_bare == pytest.approx(4.0)
    assert rows["served", 16].over_batched == pytest.approx(2.0)
    assert rows["served", 16].peak_rows == 8
    assert rows["served", 16].shared_share == 0.5
    assert rows["bare, 1 thread(s)", 1].peak_rows is None


def test_the_heading_names_machine_and_versions() -> None:
    assert heading(MACHINE).endswith("python 3.11")
    assert "2 cores" in heading(MACHINE)


def test_sides_take_turns_and_bare_ones_make_one_picture_at_a_time() -> None:
    asked: list[tuple[str, int, int]] = []

    def side(kind: Kind, name: str, seconds: float) -> Side:
        def turn(pictures, concurrency: int) -> Round:
            asked.append((name, len(pictures), concurrency))
            return Round(seconds, (seconds,) * len(pictures))

        return Side(kind, name, turn)

    sides = [side(Kind.BARE, "bare", 1.0), side(Kind.SERVED, "a", 2.0), side(Kind.SERVED, "b", 1.0)]
    pictures = mixed(4)
    turns = [Turn(2, pictures, bare=pictures[:1]), Turn(4, pictures)]
    rounds = play(sides, turns, 2, lambda news: None)
    each = [("bare", 1, 1), ("a", 4, 2), ("b", 4, 2), ("a", 4, 4), ("b", 4, 4)]
    assert asked == each * 2
    assert {key: len(all_) for key, all_ in rounds.items()} == {
        ("bare", 1): 2,
        ("a", 2): 2,
        ("b", 2): 2,
        ("a", 4): 2,
        ("b", 4): 2,
    }
    assert fastest(sides, Kind.SERVED, rounds, 4).name == "b"
