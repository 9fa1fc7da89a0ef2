"""What request batching is tried with, at each concurrency."""

from pathlib import Path

import pytest

from benchmarks import batched
from benchmarks.batched import applications, candidates
from benchmarks.batched_app import Batching
from benchmarks.setup import Setup
from kandinsky.catalog.catalog import Catalog


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def test_one_request_open_is_batched_with_nobody_and_waits_for_nobody() -> None:
    assert candidates(2, 1) == [Batching(1, 0.0)]


def test_replicas_share_the_cores_and_are_as_many_as_decoders(monkeypatch) -> None:
    monkeypatch.setattr(batched, "cores", lambda: 4)
    setup = Setup(Catalog.load()["shapes"], (Path("/models"),), decoders=2, quick=True)
    found = applications(setup)
    assert {(one["replicas"], one["threads"]) for one in found.values()} == {(2, 2)}
    assert [one["compiled"] for one in found.values()] == [False, True]


@pytest.mark.parametrize(("replicas", "sizes"), [(1, {8, 16}), (2, {4, 8})])
def test_a_batch_holds_a_replicas_share_of_what_is_open_or_half_of_it(replicas, sizes) -> None:
    tried = candidates(replicas, 16)
    assert {one.max_batch_size for one in tried} == sizes
    assert len({one.wait_seconds for one in tried}) == 2


def test_a_call_says_how_it_is_to_be_gathered() -> None:
    batching = Batching(16, 0.05)
    assert Batching.of(Context(("application", "batched"), batching.metadata())) == batching
