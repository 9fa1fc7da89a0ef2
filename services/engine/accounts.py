"""The cost of each step, for step times, the groups' shares and the tenants of previews."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.device.clock import DeviceClock, Moment, Span
from services.engine.counters import Counters
from services.engine.fair_share import FairShare
from services.engine.group import GroupKey
from services.engine.job import Job
from services.engine.phase import Phase
from services.engine.previews import Made, Previews
from services.engine.step_times import StepTimeEstimator


@dataclass(frozen=True)
class Step:
    """A group's step, as it begins."""

    group: GroupKey
    phase: Phase
    """Of one of its jobs."""
    cost: float
    """Of its forward."""
    rows: int
    is_shallow: bool
    jobs: int
    begins: Moment
    """When the device comes to it."""
    forwards: int
    """Forwards of the engine before it."""


@dataclass(frozen=True)
class GivenStep:
    """A step that the device was given whole, and may not have ended."""

    step: Step
    span: Span
    previews: Sequence[Made]
    tenants: frozenset[str]
    """Of all jobs at work."""


class Accounts:
    """Accounts for all steps of one engine.

    Args:
        step_times: record the step's time.
        share: records the group's cost.
        previews: made in the step; their time is not the step's.
        counters: of the engine.
        device: on which steps are timed.
    """

    def __init__(
        self,
        step_times: StepTimeEstimator,
        share: FairShare,
        previews: Previews,
        counters: Counters,
        device: DeviceClock,
    ) -> None:
        self._step_times = step_times
        self._share = share
        self._previews = previews
        self._counters = counters
        self._device = device
        self._given: deque[GivenStep] = deque()

    def begin(self, jobs: Sequence[Job]) -> Step:
        """Record what a group's step costs, before its jobs advance."""
        rows = sum(job.phase.rows_at(job.step) for job in jobs)
        first, forwards = jobs[0], self._counters.forwards
        cost = sum(job.phase.cost_at(job.step) for job in jobs)
        return Step(
            first.group,
            first.phase,
            cost,
            rows,
            first.is_shallow,
            len(jobs),
            self._device.mark(),
            forwards,
        )

    def settle(self, step: Step, running: Sequence[Job]) -> dict[str, float]:
        """Account for a step that the device was given, and time those that have ended.

        Waits until the device is behind by no more steps than its clock allows.

        Args:
            step: from `begin`.
            running: all jobs at work.

        Returns:
            What previews of the steps that have ended cost beside the jobs' own, by tenant.
        """
        made = self._previews.take()
        if self._counters.forwards > step.forwards:
            span = Span(step.begins, self._device.mark())
            tenants = frozenset(job.tenant for job in running)
            self._given.append(GivenStep(step, span, made, tenants))
        self._share.record(step.group, step.cost, step.jobs)
        return self.time(self._device.steps_ahead)

    def time(self, ahead: int = 0) -> dict[str, float]:
        """Wait for the steps that the device was given, all but the last ones, and time them.

        Args:
            ahead: the last ones, which may go on.

        Returns:
            As `settle`.
        """
        costs: Counter[str] = Counter()
        while len(self._given) > ahead:
            given = self._given.popleft()
            given.span.ends.wait()
            seconds, spent = self._previews.settle(
                given.span.seconds, given.previews, given.tenants
            )
            step = given.step
            self._step_times.record(step.phase, step.rows, max(seconds, 0.0), step.is_shallow)
            extra = {name: self._step_times.cost(each) or 0.0 for name, each in spent.items()}
            self._share.record(step.group, sum(extra.values()), step.jobs)
            costs.update(extra)
        return dict(costs)
