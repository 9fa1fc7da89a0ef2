"""The arithmetic behind the benchmark's tables."""

import pytest

from benchmarks.figures import (
    Round,
    latency,
    latency_ratio,
    marginal,
    median_ratio,
    percentile,
    throughput,
    throughput_ratio,
)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1.0), (0.5, 2.5), (0.95, 3.85), (1, 4.0), (1 / 3, 2.0)]
)
def test_percentile_interpolates_between_neighbours(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(expected)


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.95) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_percentile_refuses_what_has_none(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_ratios_pair_the_rounds_and_take_the_median() -> None:
    # The machine was three times slower in the second round, for both sides alike.
    assert median_ratio([2.0, 6.0, 2.2], [1.0, 3.0, 1.0]) == pytest.approx(2.0)


def test_ratios_refuse_rounds_without_a_baseline() -> None:
    with pytest.raises(ValueError, match="zip"):
        median_ratio([1.0, 2.0], [1.0])


def a_round(seconds: float, *latencies: float) -> Round:
    return Round(seconds, tuple((seconds - each, seconds) for each in latencies))


def test_a_side_twice_as_fast_has_half_the_latency_and_double_the_throughput() -> None:
    slow = [a_round(4.0, 2.0, 2.0), a_round(8.0, 4.0, 4.0)]
    fast = [a_round(2.0, 1.0, 1.0), a_round(4.0, 2.0, 2.0)]
    assert latency_ratio(fast, slow) == pytest.approx(0.5)
    assert throughput_ratio(fast, slow) == pytest.approx(2.0)


def test_medians_are_over_all_images_and_over_rounds() -> None:
    rounds = [a_round(3.0, 1.0, 2.0, 3.0), a_round(9.0, 9.0), a_round(2.0, 2.0, 2.0)]
    assert latency(rounds) == 2.0
    assert throughput(rounds) == 1.0


def test_an_image_counts_by_the_part_of_its_time_in_the_window() -> None:
    found = Round(10.0, ((-4.0, 4.0), (2.0, 6.0), (9.0, 11.0), (-9.0, -1.0)))
    assert found.images_a_second == pytest.approx((0.5 + 1 + 0.5) / 10)
    assert found.latencies == [8.0, 4.0]


def test_a_window_without_a_finished_image_has_the_latencies_of_all() -> None:
    assert Round(1.0, ((-4.0, 4.0),)).latencies == [8.0]


def test_marginal_cost_leaves_out_what_one_alone_costs() -> None:
    assert marginal(5.0 + 9 * 0.25, 5.0, 10) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="marginal"):
        marginal(1.0, 1.0, 1)
