"""Who enters the running batch and who is paused for it, round by round."""

from services.engine.admission import Admission
from services.engine.counters import Counters
from services.engine.events import Queued
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.step_times import StepTimeEstimator
from tests.services.engine.toys import Clock, ToyNetwork, toy_job

NETWORK = ToyNetwork()
STEPS = 10
"""And the last pass."""


class Rounds:
    """An admission with four rows, and the batch that it makes; each step takes a second."""

    def __init__(self) -> None:
        self.clock, self.counters = Clock(), Counters()
        step_times = StepTimeEstimator()
        step_times.record(toy_job(NETWORK, 1).phase, 1, 1.0, is_warm=True)
        limits = EngineLimits(max_batch_rows=4, max_batch_latent_area=4)
        self.admission = Admission(limits, step_times, self.counters, self.clock)
        self.running: list[Job] = []
        self.queued: list[str] = []

    def submit(self, name: str, **options) -> Job:
        job = toy_job(NETWORK, STEPS, id=name, **options)
        job.emit = lambda event: self.queued.append(name) if isinstance(event, Queued) else None
        self.admission.submit(job, self.running)
        return job

    def run(self, seconds: float = 1.0) -> list[str]:
        """The batch after a round."""
        changes = self.admission.admit(self.running)
        self.admission.report_places()
        for job in changes.admitted:
            job.begin(self.clock.now)
        self.running = changes.running
        self.clock.now += seconds
        return [job.id for job in self.running]


def test_a_paused_job_waits_and_goes_on_without_beginning_again() -> None:
    rounds = Rounds()
    low = rounds.submit("low", rows=4)
    assert rounds.run() == ["low"]
    state = low.state
    high = rounds.submit("high", rows=4, priority=1)
    assert rounds.run() == ["high"]
    assert (low.is_paused, len(rounds.admission), rounds.counters.preempted) == (True, 1, 1)
    assert rounds.run() == ["high"]
    high.abandon(rounds.clock.now)
    assert rounds.run() == ["low"]
    assert low.state is state
    assert (low.is_paused, low.paused, rounds.counters.admitted) == (False, 2.0, 2)


def test_a_paused_job_whose_caller_has_gone_lets_go_of_its_state() -> None:
    rounds = Rounds()
    low = rounds.submit("low", rows=4)
    rounds.run()
    rounds.submit("high", rows=4, priority=1)
    rounds.run()
    assert low.state
    low.abandon(rounds.clock.now)
    rounds.run()
    assert not low.state
    assert (len(rounds.admission), rounds.counters.abandoned) == (0, 1)


def test_a_paused_job_has_no_place_in_the_queue_to_report() -> None:
    """To its caller it is at work."""
    rounds = Rounds()
    rounds.submit("low", rows=4)
    rounds.run()
    rounds.submit("high", rows=4, priority=1)
    rounds.submit("waiting", rows=4)
    rounds.queued.clear()
    for _ in range(3):
        rounds.run()
    assert set(rounds.queued) == {"waiting"}


def test_a_tenant_that_owes_pauses_nobody_while_another_waits() -> None:
    rounds = Rounds()
    low = rounds.submit("low", rows=4, tenant="a")
    rounds.run()
    low.step = STEPS - 1
    rounds.submit("other", rows=4, tenant="b")
    rounds.submit("high", rows=4, tenant="a", priority=1)
    assert rounds.run() == ["high"]
    higher = rounds.submit("higher", rows=4, tenant="a", priority=2)
    assert rounds.run() == ["high"]
    assert not higher.is_paused
    assert rounds.counters.preempted == 1


def test_nobody_is_paused_in_the_round_in_which_it_enters() -> None:
    rounds = Rounds()
    rounds.submit("old", rows=2, deadline=STEPS + 3.0)
    rounds.run()
    rounds.submit("new", rows=2)
    hurried = rounds.submit("hurried", rows=2)
    hurried.deadline = STEPS + 5.0  # it would be refused: those before it take longer
    assert rounds.run() == ["old", "new"]
    assert rounds.run() == ["old", "hurried"]


def test_a_first_step_that_compiles_lets_nobody_look_late() -> None:
    """What the first step of its kind takes says nothing of those that follow."""
    step_times = StepTimeEstimator()
    phase = toy_job(NETWORK, STEPS).phase
    step_times.record(phase, 1, 100.0)
    assert step_times.least([phase]) == 0
    step_times.record(phase, 1, 1.0)
    assert step_times.least([phase]) == STEPS
