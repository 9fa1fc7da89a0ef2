"""The arithmetic of a measurement: medians, percentiles, ratios of paired rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Round:
    """One side's turn: some images made, one or several at a time."""

    seconds: float
    """From the first request to the last image."""
    latencies: tuple[float, ...]
    """Seconds, one an image."""

    @property
    def images_a_second(self) -> float:
        """Throughput of this round."""
        return len(self.latencies) / self.seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, interpolated between neighbours.

    Args:
        values: one at least, in any order.
        share: 0 to 1.

    Raises:
        ValueError: there are no values, or the share is out of range.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("a percentile needs values, and a share from 0 to 1")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def median_latency(rounds: Sequence[Round]) -> float:
    """Median of all the rounds' latencies, seconds."""
    return median(latency for one in rounds for latency in one.latencies)


def median_throughput(rounds: Sequence[Round]) -> float:
    """Median of the rounds' throughputs, images a second."""
    return median(one.images_a_second for one in rounds)


def median_ratio(values: Sequence[float], baselines: Sequence[float]) -> float:
    """Median of the ratios of values to the baselines of the same rounds.

    Raises:
        ValueError: they are not as many, or none.
    """
    return median(value / base for value, base in zip(values, baselines, strict=True))


def latency_ratio(rounds: Sequence[Round], baseline: Sequence[Round]) -> float:
    """How many times the baseline's latency, above 1 is slower."""
    return median_ratio(
        [median(one.latencies) for one in rounds], [median(one.latencies) for one in baseline]
    )


def throughput_ratio(rounds: Sequence[Round], baseline: Sequence[Round]) -> float:
    """How many times the baseline's throughput, above 1 is faster."""
    return median_ratio(
        [one.images_a_second for one in rounds], [one.images_a_second for one in baseline]
    )


@dataclass(frozen=True)
class Paired:
    """Medians of two sides that took turns."""

    values: tuple[float, ...]
    """Median of each round."""
    baselines: tuple[float, ...]

    @property
    def value(self) -> float:
        """Median of the rounds' medians."""
        return median(self.values)

    @property
    def baseline(self) -> float:
        """As `value`, of the baseline."""
        return median(self.baselines)

    @property
    def ratio(self) -> float:
        """Median of the ratios of rounds that stand beside each other."""
        return median_ratio(self.values, self.baselines)


def paired_medians(
    rounds: Sequence[Sequence[float]], baselines: Sequence[Sequence[float]]
) -> Paired:
    """Each round's median, beside the baseline's of the same round."""
    return Paired(tuple(map(median, rounds)), tuple(map(median, baselines)))


def marginal(seconds: float, seconds_of_one: float, count: int) -> float:
    """What each further one of `count` took, where one alone took `seconds_of_one`.

    Raises:
        ValueError: there is no further one.
    """
    if count < 2:
        raise ValueError("one alone has no marginal cost")
    return (seconds - seconds_of_one) / (count - 1)
