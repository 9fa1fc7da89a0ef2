"""Measured step times and rate of work: for time left, admission and retry times."""

from collections.abc import Iterable

from services.engine.phase import Phase

DECAY = 0.9
"""Weight of what was known before, at each new measurement."""

Key = tuple[str, int, bool]
"""A network's name, the latent area of a row, and whether its deep part is left out."""


class StepTimeEstimator:
    """Seconds of steps and the rate of work, from the forwards so far."""

    def __init__(self) -> None:
        self._met: set[Key] = set()
        self._least: dict[Key, float] = {}
        self._usual: dict[Key, float] = {}
        self._row: dict[Key, float] = {}
        self._work = 0.0
        self._seconds = 0.0

    def record(
        self,
        phase: Phase,
        rows: int,
        seconds: float,
        is_shallow: bool = False,
        is_warm: bool = False,
    ) -> None:
        """Record one step of a group. The first of its kind says nothing of the least that a step
        takes: while it compiles, no deadline would seem to be kept.

        Args:
            phase: of one of its jobs.
            rows: of all of them.
            seconds: from the step's start to its end.
            is_shallow: whether the network's deep part was left out.
            is_warm: whether one of its kind went before that was not recorded.
        """
        key = (phase.network.name, phase.latent_area, is_shallow)
        if key in self._met or is_warm:
            self._least[key] = min(seconds, self._least.get(key, seconds))
        self._met.add(key)
        self._usual[key] = DECAY * self._usual.get(key, seconds) + (1 - DECAY) * seconds
        each = seconds / max(rows, 1)
        self._row[key] = DECAY * self._row.get(key, each) + (1 - DECAY) * each
        self._work = DECAY * self._work + rows * phase.latent_area
        self._seconds = DECAY * self._seconds + seconds

    def least(self, phases: Iterable[Phase], done: int = 0) -> float:
        """Seconds that some phases take at the least; 0 for what was never measured.

        Args:
            phases: to pass.
            done: steps of the first of them that are done already.
        """
        return self._sum(self._least, phases, done)

    def usual(self, phases: Iterable[Phase], done: int = 0) -> float:
        """Seconds that some phases usually take, each step with the rows that share it."""
        return self._sum(self._usual, phases, done)

    def step(self, phase: Phase) -> float:
        """Seconds that a whole step of a phase usually takes; 0 where none was measured."""
        return self._usual.get((phase.network.name, phase.latent_area, False), 0.0)

    def row(self, phase: Phase) -> float:
        """Seconds of it for each of its rows; 0 where none was measured."""
        return self._row.get((phase.network.name, phase.latent_area, False), 0.0)

    def seconds(self, cost: float) -> float | None:
        """Seconds that work of a cost takes at the measured rate; None before the first step.

        Args:
            cost: rows times latent area times steps.
        """
        return cost * self._seconds / self._work if self._work else None

    def cost(self, seconds: float) -> float | None:
        """What could have been done in some seconds at the measured rate: the inverse of `seconds`.

        In rows times latent area times steps; None before the first step.
        """
        return seconds * self._work / self._seconds if self._seconds else None

    def _sum(self, times: dict[Key, float], phases: Iterable[Phase], done: int) -> float:
        total = 0.0
        for phase in phases:
            for is_shallow, steps in phase.passes(done).items():
                key = (phase.network.name, phase.latent_area, is_shallow)
                total += steps * times.get(key, 0.0)
            done = 0
        return total
