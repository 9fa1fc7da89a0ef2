"""Which running jobs are paused for one that waits: the fewest, and only for a gain."""

import math

import pytest

from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.preemption import Preemption
from services.engine.step_times import StepTimeEstimator
from tests.services.engine.toys import Clock, ToyNetwork, toy_job

NETWORK = ToyNetwork()
NOW = 100.0


def job(name: str, steps: int = 9, **options) -> Job:
    """With its last pass, of so many seconds and one more."""
    return toy_job(NETWORK, steps, id=name, **options)


def preemption(rows: int = 4) -> Preemption:
    """Where each step takes a second."""
    step_times, clock = StepTimeEstimator(), Clock()
    step_times.record(job("measured").phase, 1, 1.0, is_warm=True)
    clock.now = NOW
    return Preemption(
        EngineLimits(max_batch_rows=rows, max_batch_latent_area=rows), step_times, clock
    )


def running(*jobs: Job) -> list[Job]:
    """Admitted one after the other."""
    for place, each in enumerate(jobs):
        each.admitted = float(place)
    return list(jobs)


def names(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


@pytest.mark.parametrize(
    ("sizes", "needed", "expected"),
    [
        ((1, 1, 1, 1), 1, ["3"]),
        ((1, 1, 1, 1), 2, ["3", "2"]),
        ((2, 1, 1), 2, ["0"]),  # one is fewer than two
        ((1, 3), 2, ["1"]),
        ((3, 1), 4, ["0", "1"]),
        ((3, 1), 5, ["0", "1"]),  # larger than the limits: runs alone
    ],
    ids=str,
)
def test_the_fewest_make_room(sizes, needed, expected) -> None:
    batch = running(*(job(str(place), rows=rows) for place, rows in enumerate(sizes)))
    found = preemption().victims(job("high", rows=needed, priority=1), batch)
    assert names(found) == expected


def test_the_lowest_go_first_and_of_those_the_last() -> None:
    batch = running(*(job(f"{place}", priority=p) for place, p in enumerate((1, 0, 0, 2))))
    assert names(preemption().victims(job("high", priority=3), batch)) == ["2"]
    assert names(preemption().victims(job("high", priority=3, rows=3), batch)) == ["2", "1", "0"]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ({"tenant": "other"}, {}),
        ({"priority": 1}, {}),
        ({"rows": 3}, {"rows": 1}),  # there is room
        ({"rows": 3}, {"rows": 1, "deadline": NOW + 11}),
    ],
    ids=str,
)
def test_nobody_is_paused_for_nothing(low, high) -> None:
    batch = running(job("low", **{"rows": 4, **low}))
    waiting = job("high", **{"priority": 1, **high})
    assert preemption().victims(waiting, batch) == []
    assert preemption().next([waiting], batch) is None


def test_nobody_is_paused_where_that_is_not_enough() -> None:
    batch = running(job("low", rows=2), job("as high", rows=2, priority=1))
    assert preemption().victims(job("high", rows=3, priority=1), batch) == []


def test_those_that_have_only_just_come_stay() -> None:
    batch = running(job("old", rows=2), job("new", rows=2))
    waiting = job("high", rows=2, priority=1)
    found = preemption().next([waiting], batch, admitted=batch[1:])
    assert found is not None
    assert names(found[1]) == ["old"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(9.5, []), (10.5, ["low"]), (19.5, ["low"]), (20.5, [])],
    ids=["too late", "in time", "just so", "with time to wait"],
)
@pytest.mark.parametrize("priority", [0, 1])
def test_a_deadline_is_a_reason_where_waiting_misses_it_and_going_first_does_not(
    seconds, expected, priority
) -> None:
    """Priority is a reason whenever the job is not too late."""
    batch = running(job("low", rows=4))
    waiting = job("late", deadline=NOW + seconds, priority=priority)
    found = preemption().victims(waiting, batch)
    assert names(found) == (["low"] if priority and seconds > 10 else expected)


@pytest.mark.parametrize(
    ("deadline", "priority", "yields"),
    [
        (math.inf, 0, True),
        (NOW + 20.5, 0, True),
        (NOW + 19.5, 0, False),  # would miss its own
        (NOW + 19.5, -1, True),  # is of lower priority
        (math.inf, 1, False),
    ],
    ids=str,
)
def test_who_yields_to_a_job_in_a_hurry(deadline, priority, yields) -> None:
    batch = running(job("low", rows=4, deadline=deadline, priority=priority))
    found = preemption().victims(job("late", deadline=NOW + 11), batch)
    assert bool(found) == yields


def test_a_job_does_not_yield_to_one_with_a_later_deadline() -> None:
    batch = running(
        job("short", steps=1, rows=2, deadline=NOW + 105), job("long", steps=99, rows=2)
    )
    waiting = [job("late", steps=99, rows=4, deadline=NOW + each) for each in (104, 105.5)]
    assert [len(preemption().victims(each, batch)) for each in waiting] == [2, 0]


def test_a_deadline_counts_the_time_until_there_is_enough_room() -> None:
    batch = running(job("short", steps=1, rows=1), job("long", steps=99, rows=3))
    assert preemption().victims(job("small", deadline=NOW + 15), batch) == []
    assert names(preemption().victims(job("large", rows=3, deadline=NOW + 15), batch)) == ["long"]


def test_of_those_that_wait_the_first_goes_or_whoever_is_in_a_hurry() -> None:
    batch = running(job("low", rows=4, priority=-1))
    too_large = running(job("low", rows=3, priority=-1), job("high", priority=1))
    first, second = job("first", rows=4), job("second", rows=3)
    hurried = job("hurried", deadline=NOW + 11)
    found = [preemption().next(waiting, batch) for waiting in ([first, second], [second, hurried])]
    assert [each and each[0].id for each in found] == ["first", "second"]
    assert preemption().next([first, second], too_large) is None, "the first is overtaken"
    overtaking = preemption().next([first, hurried], too_large)
    assert overtaking is not None
    assert overtaking[0] is hurried
