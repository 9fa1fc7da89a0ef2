"""The step time estimator: the least time that sampling has taken of late, by kind of job."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from kandinsky.v1 import sampling_pb2

WINDOW = 600.0
"""Seconds after which a measurement expires: another GPU, or less load, may take less, and refused
requests measure nothing."""
MOST_KINDS = 1024
"""Kinds of sampling that are kept in half a window, at most."""

Times = dict[tuple[Hashable, bool], dict[int, float]]


class StepTimeEstimator:
    """Learns from finished jobs how long sampling takes at the least.

    The time of a job is that of its steps and of its autoencoder's passes, which are counted
    together as forwards. Another job with as many passes takes, with fewer steps, at least its
    share of that time, and with more steps at least all of it, whatever a pass costs beside a step.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._now: Times = {}
        """Seconds of the quickest job, by kind, whether it shared no forward, and its forwards;
        `_before` is that of the half window before."""
        self._before: Times = {}

    def note(self, kind: Hashable, stats: sampling_pb2.SamplingStats, rows: int) -> None:
        """Take in a finished job.

        Args:
            kind: what makes two jobs of equal steps cost the same.
            stats: the job's.
            rows: that it had of each forward.
        """
        if not stats.forwards or stats.resumes:  # of a job that moved, its last replica's alone
            return
        self._forget()
        alone = not stats.shared_forwards
        seconds = stats.running.ToNanoseconds() / 1e9
        if not alone:  # one forward of so many rows takes no longer than as many forwards of one
            seconds *= min(1.0, rows / max(stats.peak_rows, 1))
        if (kind, alone) not in self._now and len(self._now) >= MOST_KINDS:
            return
        times = self._now.setdefault((kind, alone), {})
        times[stats.forwards] = min(seconds, times.get(stats.forwards, seconds))

    def least(self, kind: Hashable, steps: int) -> float:
        """Seconds that a job of some steps takes at the least; 0 if none of its kind is known.

        Args:
            kind: as of `note`.
            steps: of denoising; passes of the autoencoder are not counted.
        """
        self._forget()
        for alone in (
            True,
            False,
        ):  # shared forwards bound less tightly: only where nothing else is known
            times = [*self._times(self._before, kind, alone), *self._times(self._now, kind, alone)]
            if times:
                shares = [
                    seconds * steps / forwards for forwards, seconds in times if forwards >= steps
                ]
                most = max(forwards for forwards, _ in times)
                return min(shares or [seconds for forwards, seconds in times if forwards == most])
        return 0.0

    def _times(self, times: Times, kind: Hashable, alone: bool) -> list[tuple[int, float]]:
        return list(times.get((kind, alone), {}).items())

    def _forget(self) -> None:
        now = self._clock()
        if now - self._since >= WINDOW / 2:
            self._before = self._now if now - self._since < WINDOW else {}
            self._now, self._since = {}, now
