"""Every table's report: its rows, its JSON, its plot."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.attacks import Attacks
from benchmarks.attacks import Row as AttackRow
from benchmarks.batched import Application, Baseline, Candidate
from benchmarks.batched_app import Batching
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

MACHINE = Machine(2, "a processor", 24.0, "cpu", 0.1, {"python": "3.11"}, "abc1234")


def bare(seconds: float) -> Round:
    return Round(seconds, (seconds / 2, seconds / 2))


def served(seconds: float, peak_rows: int = 4) -> ServedRound:
    made = Made(b"", forwards=10, shared_forwards=5, peak_rows=peak_rows)
    return ServedRound(seconds, (seconds, seconds), (made, made))


def never(tasks: object, concurrency: int) -> Round:
    raise AssertionError("a report asks nobody for images")


SIDES = [
    Side(Kind.BARE, "bare, 1 thread", never),
    Side(Kind.BARE, "bare, 2 threads", never),
    Side(Kind.BARE, "bare, 2 processes", never, 2),
    Side(Kind.BATCHED, "batching, 1 replica", never),
    Side(Kind.BATCHED, "batching, 2 replicas", never, 2),
    Side(Kind.SERVED, "served, 1 decoder", never),
    Side(Kind.SERVED, "served, 2 decoders", never, 2),
]
ROUNDS: Rounds = {
    ("bare, 1 thread", 1): [bare(4.0), bare(8.0)],
    ("bare, 2 threads", 1): [bare(2.0), bare(4.0)],
    ("bare, 2 processes", 2): [bare(1.0), bare(2.0)],
    ("batching, 1 replica", 1): [served(2.0), served(4.0)],
    ("batching, 1 replica", 16): [served(1.0), served(2.0)],
    ("batching, 2 replicas", 16): [served(0.4), served(0.8)],
    ("served, 1 decoder", 1): [served(2.5), served(5.0)],
    ("served, 1 decoder", 16): [served(0.5, 8), served(1.0, 8)],
    ("served, 2 decoders", 16): [served(0.5, 8), served(1.0, 8)],
}
STANDINGS = Standings(SIDES, ROUNDS)
BASELINES = [
    Baseline(SIDES[3], {16: Candidate(Application(1, 2), Batching(16, 0.05))}),
]
HOP_ROWS = [HopRow(hop, 3.0, 1.0, 3.0, [3.0], [1.0]) for hop in HOPS]
ATTACK_ROWS = [
    AttackRow("none", (0.5, 0.4, 0.6), 0, 0.3, {}),
    AttackRow("masks", (1.4, 1.0, 2.0), 0, 0.6, {"INVALID_FIELD": 90}),
]
REPORTS: dict[str, Report] = {
    "overhead": Overhead(STANDINGS, 1),
    "throughput": Throughput(STANDINGS, BASELINES, {"served": 1}, 0.05),
    "mixed": Mixed(STANDINGS, mixed(6), BASELINES, {"served": 1}),
    "hops": Hops(HOP_ROWS, QUICK),
    "attacks": Attacks(ATTACK_ROWS),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_writes_json_and_a_plot(name: str, tmp_path: Path) -> None:
    report = REPORTS[name]
    figures, task = write(name, report, MACHINE, "shapes", tmp_path / "new")
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert content["table"] == name
    assert content["machine"]["cores"] == 2
    assert content["note"] == report.note()
    assert content["rows"]
    assert figures.name == f"{name}.json"
    assert task.name == f"{name}.png"
    assert task.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_prints_a_row_for_each_of_its_figures(name: str) -> None:
    table = REPORTS[name].table()
    expected = {"overhead": 9, "throughput": 9, "mixed": 9, "hops": len(HOPS), "attacks": 2}
    assert table.row_count == expected[name]
    Console(quiet=True).print(table)


def test_the_tables_are_modules_with_a_measure() -> None:
    assert set(REPORTS) <= set(TABLES)
    for name in REPORTS:
        assert type(REPORTS[name]).__module__ == TABLES[name]


def test_ratios_are_to_the_fastest_bare_side_that_has_no_more_processes_than_are_open() -> None:
    assert STANDINGS.baseline(1).name == "bare, 2 threads"
    assert STANDINGS.baseline(16).name == "bare, 2 processes"
    rows = {(row.side, row.concurrency): row for row in STANDINGS.rows()}
    assert rows["bare, 1 thread", 1].over_bare == pytest.approx(0.5)
    assert rows["served, 1 decoder", 1].over_bare == pytest.approx(0.8)
    assert rows["served, 1 decoder", 16].over_bare == pytest.approx(2.0)
    assert rows["served, 1 decoder", 16].latency_over_bare == pytest.approx(0.5)


def test_ratios_are_to_request_batching_with_as_many_replicas_and_requests_open() -> None:
    rows = {(row.side, row.concurrency): row for row in STANDINGS.rows()}
    assert rows["bare, 1 thread", 1].over_batched is None
    assert rows["batching, 1 replica", 16].over_batched is None
    assert rows["served, 1 decoder", 1].over_batched == pytest.approx(0.8)
    assert rows["served, 1 decoder", 16].over_batched == pytest.approx(2.0)
    assert rows["served, 2 decoders", 16].over_batched == pytest.approx(0.8)
    assert rows["served, 2 decoders", 16].latency_over_batched == pytest.approx(1.25)


def test_a_row_says_what_shared_its_forwards() -> None:
    rows = {(row.side, row.concurrency): row for row in STANDINGS.rows()}
    assert rows["served, 1 decoder", 16].peak_rows == 8
    assert rows["served, 1 decoder", 16].shared_share == 0.5
    assert rows["bare, 1 thread", 1].peak_rows is None


def test_the_heading_names_machine_and_versions() -> None:
    assert heading(MACHINE).endswith("python 3.11")
    assert "2 cores" in heading(MACHINE)


def test_sides_take_turns_and_bare_ones_have_as_many_open_as_processes() -> None:
    asked: list[tuple[str, int, int]] = []

    def side(kind: Kind, name: str, seconds: float) -> Side:
        def turn(tasks, concurrency: int) -> Round:
            asked.append((name, len(tasks), concurrency))
            return Round(seconds, (seconds,) * len(tasks))

        return Side(kind, name, turn)

    sides = [side(Kind.BARE, "bare", 1.0), side(Kind.SERVED, "a", 2.0), side(Kind.SERVED, "b", 1.0)]
    tasks = mixed(4)
    turns = [Turn(2, tasks, bare=tasks[:1]), Turn(4, tasks)]
    rounds = play(sides, turns, 2, lambda line: None)
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


def test_attacks_are_measured_by_the_idle_server_and_bounds() -> None:
    held = Attacks(ATTACK_ROWS)
    assert held.ratio(ATTACK_ROWS[1]) == pytest.approx(2.8)
    assert held.held
    slow = AttackRow("prompts", (1.6,), 0, 0.6, {})
    large = AttackRow("messages", (0.5,), 0, 2.1, {})
    assert not Attacks([*ATTACK_ROWS, slow]).held
    assert not Attacks([*ATTACK_ROWS, large]).held
