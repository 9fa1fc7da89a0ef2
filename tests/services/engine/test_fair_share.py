"""Which group goes next: by what a step costs each of its jobs."""

from collections import Counter

from services.engine.fair_share import FairShare


def served(costs: dict[tuple[str], tuple[int, int]], steps: int) -> Counter[tuple[str]]:
    """Steps of each group, by the cost of a step and the jobs that share it."""
    share, counts = FairShare(), Counter()
    for _ in range(steps):
        group = share.next(costs)
        cost, jobs = costs[group]
        share.record(group, cost, jobs)
        counts[group] += 1
    return counts


def test_a_group_of_many_jobs_goes_as_often_as_one_of_a_single_like_job() -> None:
    counts = served({("many",): (8 * 10, 8), ("single",): (10, 1)}, steps=100)
    assert counts == {("many",): 50, ("single",): 50}


def test_a_job_whose_steps_cost_more_takes_fewer() -> None:
    counts = served({("large",): (40, 1), ("small",): (10, 1)}, steps=100)
    assert counts == {("large",): 20, ("small",): 80}


def test_a_newcomer_starts_where_the_others_are() -> None:
    share = FairShare()
    for _ in range(50):
        share.record(share.next([("old",)]), 10, 1)
    both, counts = [("old",), ("new",)], Counter()
    for _ in range(20):
        group = share.next(both)
        share.record(group, 10, 1)
        counts[group] += 1
    assert counts == {("old",): 10, ("new",): 10}
