"""The arithmetic of a measurement: percentiles, throughput of a window, ratios of paired rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Round:
    """One side's turn: images made, one or several at a time."""

    seconds: float
    """Of the window in which they are counted."""
    spans: tuple[tuple[float, float], ...]
    """When each was asked for and when it came, in seconds from the window's begin."""
    peak_rows: float | None = None
    """Most rows in one decoder forward, mean over the images."""

    @property
    def images_a_second(self) -> float:
        """Throughput: an image counts by the part of its time that lies in the window."""
        return sum(self._share(*span) for span in self.spans) / self.seconds

    @property
    def latencies(self) -> list[float]:
        """Seconds of each image that came within the window; of all where none did."""
        within = [end - begun for begun, end in self.spans if 0 < end <= self.seconds]
        return within or [end - begun for begun, end in self.spans]

    def _share(self, begun: float, end: float) -> float:
        return max(0.0, min(end, self.seconds) - max(begun, 0.0)) / (end - begun)


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


def latency(rounds: Sequence[Round], share: float = 0.5) -> float:
    """A percentile of all the rounds' latencies, seconds."""
    return percentile([each for one in rounds for each in one.latencies], share)


def throughput(rounds: Sequence[Round]) -> float:
    """Median of the rounds' throughputs, images a second."""
    return median(one.images_a_second for one in rounds)


def median_ratio(values: Sequence[float], baselines: Sequence[float]) -> float:
    """Median of the ratios of values to the baselines of the same rounds.

    Raises:
        ValueError: they are not as many, or none.
    """
    return median(value / base for value, base in zip(values, baselines, strict=True))


def latency_ratio(rounds: Sequence[Round], baseline: Sequence[Round]) -> float:
    """How many times the baseline's median latency, above 1 is slower."""
    return median_ratio([latency([one]) for one in rounds], [latency([one]) for one in baseline])


def throughput_ratio(rounds: Sequence[Round], baseline: Sequence[Round]) -> float:
    """How many times the baseline's throughput, above 1 is faster."""
    return median_ratio(
        [one.images_a_second for one in rounds], [one.images_a_second for one in baseline]
    )


def marginal(seconds: float, seconds_of_one: float, count: int) -> float:
    """What each further one of `count` took, where one alone took `seconds_of_one`.

    Raises:
        ValueError: there is no further one.
    """
    if count < 2:
        raise ValueError("one alone has no marginal cost")
    return (seconds - seconds_of_one) / (count - 1)
