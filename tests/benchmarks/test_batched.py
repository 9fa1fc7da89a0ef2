"""What request batching is tried with, at each concurrency."""

import pytest

from benchmarks import batched
from benchmarks.batched import candidates
from benchmarks.batched_app import Batching


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "cores", lambda: 2)


def test_one_request_open_is_batched_with_nobody_and_waits_for_nobody() -> None:
    tried = {str(one) for one in candidates(1, 1)}
    assert tried == {"1 thread(s), up to 1, wait 0 ms", "2 thread(s), up to 1, wait 0 ms"}


def test_replicas_that_fill_the_cores_have_one_thread_each() -> None:
    assert {one.application.threads for one in candidates(2, 16)} == {1}
    assert {one.application.replicas for one in candidates(2, 16)} == {2}


@pytest.mark.parametrize(("replicas", "sizes"), [(1, {8, 16}), (2, {4, 8})])
def test_a_batch_holds_a_replicas_share_of_what_is_open_or_half_of_it(replicas, sizes) -> None:
    tried = candidates(replicas, 16)
    assert {one.batching.max_batch_size for one in tried} == sizes
    assert len({one.batching.wait_seconds for one in tried}) == 2


def test_a_call_says_how_it_is_to_be_gathered() -> None:
    batching = Batching(16, 0.05)
    assert Batching.of(Context(("application", "batched"), batching.metadata())) == batching
