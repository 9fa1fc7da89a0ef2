"""The cost of each step, for step times, the groups' shares and the tenants of previews."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.engine.counters import Counters
from services.engine.fair_share import FairShare
from services.engine.group import GroupKey
from services.engine.job import Job
from services.engine.phase import Phase
from services.engine.previews import Previews
from services.engine.step_times import StepTimeEstimator


@dataclass(frozen=True)
class Step:
    """A group's step, as it begins."""

    group: GroupKey
    phase: Phase
    """Of one of its jobs."""
    rows: int
    jobs: int
    begun: float
    forwards: int
    """Forwards of the engine before it."""


class Accounts:
    """Accounts for all steps of one engine.

    Args:
        step_times: record the step's time.
        share: records the group's cost.
        previews: made in the step; their time is not the step's.
        counters: of the engine.
        clock: seconds.
    """

    def __init__(
        self,
        step_times: StepTimeEstimator,
        share: FairShare,
        previews: Previews,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._step_times = step_times
        self._share = share
        self._previews = previews
        self._counters = counters
        self._clock = clock

    def begin(self, jobs: Sequence[Job]) -> Step:
        """Record what a group's step costs, before its jobs advance."""
        rows = sum(job.phase.rows for job in jobs)
        first = jobs[0]
        return Step(
            first.group, first.phase, rows, len(jobs), self._clock(), self._counters.forwards
        )

    def settle(self, step: Step, running: Sequence[Job]) -> dict[str, float]:
        """Account for a step that has ended.

        Args:
            step: from `begin`.
            running: all jobs at work.

        Returns:
            What previews cost beside the jobs' own steps, by tenant.
        """
        seconds, spent = self._previews.settle(self._clock() - step.begun, running)
        if self._counters.forwards > step.forwards:
            self._step_times.record(step.phase, step.rows, seconds)
        extra = {tenant: self._step_times.cost(each) or 0.0 for tenant, each in spent.items()}
        cost = step.rows * step.phase.latent_area + sum(extra.values())
        self._share.record(step.group, cost, step.jobs)
        return extra
