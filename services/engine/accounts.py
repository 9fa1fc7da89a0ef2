"""The cost of each step, for step times, the groups' shares and the tenants of previews."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.engine.counters import Counters
from services.engine.device_clock import DeviceClock, Moment
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
    begins: Moment
    """When the device comes to it."""
    forwards: int
    """Forwards of the engine before it."""


@dataclass(frozen=True)
class GivenStep:
    """A step that the device was given whole, and may not have ended."""

    step: Step
    ends: Moment
    previews: float
    """Seconds of it that previews took."""


class Accounts:
    """Accounts for all steps of one engine.

    Args:
        step_times: record the step's time.
        share: records the group's cost.
        previews: made in the step; their time is not the step's.
        counters: of the engine.
        clock: seconds.
        device: on which steps are timed.
    """

    def __init__(
        self,
        step_times: StepTimeEstimator,
        share: FairShare,
        previews: Previews,
        counters: Counters,
        clock: Callable[[], float],
        device: DeviceClock,
    ) -> None:
        self._step_times = step_times
        self._share = share
        self._previews = previews
        self._counters = counters
        self._clock = clock
        self._device = device
        self._given: deque[GivenStep] = deque()

    def begin(self, jobs: Sequence[Job]) -> Step:
        """Record what a group's step costs, before its jobs advance."""
        rows = sum(job.phase.rows for job in jobs)
        first, forwards = jobs[0], self._counters.forwards
        begins = self._device.mark()
        return Step(first.group, first.phase, rows, len(jobs), self._clock(), begins, forwards)

    def settle(self, step: Step, running: Sequence[Job]) -> dict[str, float]:
        """Account for a step that the device was given, and time those that have ended.

        Waits until the device is behind by no more steps than its clock allows.

        Args:
            step: from `begin`.
            running: all jobs at work.

        Returns:
            What previews cost beside the jobs' own steps, by tenant.
        """
        seconds = self._clock() - step.begun
        rest, spent = self._previews.settle(seconds, running)
        if self._counters.forwards > step.forwards:
            self._given.append(GivenStep(step, self._device.mark(), seconds - rest))
        self.time(self._device.steps_ahead)
        extra = {tenant: self._step_times.cost(each) or 0.0 for tenant, each in spent.items()}
        cost = step.rows * step.phase.latent_area + sum(extra.values())
        self._share.record(step.group, cost, step.jobs)
        return extra

    def time(self, ahead: int = 0) -> None:
        """Wait for the steps that the device was given, all but the last ones, and time them.

        Args:
            ahead: the last ones, which may go on.
        """
        while len(self._given) > ahead:
            given = self._given.popleft()
            given.ends.wait()
            step = given.step
            seconds = given.ends.seconds_since(step.begins) - given.previews
            self._step_times.record(step.phase, step.rows, max(seconds, 0.0))
