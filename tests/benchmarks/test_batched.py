"""What request batching is tried with, at each concurrency."""

from pathlib import Path

import pytest

from benchmarks import batched
from benchmarks.batched import applications, sizes
from benchmarks.batched_app import Batching
from benchmarks.setup import Setup
from kandinsky.catalog.catalog import Catalog


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def test_replicas_share_the_cores_and_are_as_many_as_decoders(monkeypatch) -> None:
    monkeypatch.setattr(batched, "cores", lambda: 4)
    setup = Setup(Catalog.load()["shapes"], (Path("/models"),), decoders=2, quick=True)
    found = applications(setup)
    assert {(one["replicas"], one["threads"]) for one in found.values()} == {(2, 2)}
    assert [one["compiled"] for one in found.values()] == [False, True]


@pytest.mark.parametrize(
    ("replicas", "open_", "expected"), [(1, 16, [8, 16]), (2, 16, [4, 8]), (2, 1, [1])]
)
def test_a_batch_holds_a_replicas_share_of_what_is_open_or_half_of_it(
    replicas: int, open_: int, expected: list[int]
) -> None:
    assert sizes(replicas, open_) == expected


def test_the_fastest_setting_is_kept_by_size_then_wait_then_compilation(monkeypatch) -> None:
    rates = {"up to 8, wait 50 ms": 2.0, "up to 8, wait 5 ms": 1.0}
    tried = []

    def throughput(setup, address, batching, tasks, open_) -> float:
        tried.append(str(batching))
        return rates.get(str(batching), 0.5)

    monkeypatch.setattr(batched, "_throughput", throughput)
    setup = Setup(Catalog.load()["shapes"], (), decoders=2, quick=True)
    found = batched.best(setup, "", [], [1, 16], lambda _: None)
    assert found == {1: Batching(1, 0.0), 16: Batching(8, 0.05)}
    assert tried == [
        "up to 1, wait 0 ms",
        "compiled, up to 1, wait 0 ms",
        "up to 4, wait 50 ms",
        "up to 8, wait 50 ms",
        "up to 8, wait 5 ms",
        "compiled, up to 8, wait 50 ms",
    ]


def test_a_call_says_how_it_is_to_be_gathered() -> None:
    batching = Batching(16, 0.05)
    assert Batching.of(Context(*batching.metadata())) == batching
