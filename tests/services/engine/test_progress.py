"""When a job's progress is reported."""

import pytest

from services.engine.counters import Counters
from services.engine.events import Progress
from services.engine.progress import ProgressReporter
from services.engine.step_times import StepTimeEstimator
from tests.services.engine.toys import ToyNetwork, toy_job


@pytest.mark.parametrize(("every", "steps"), [(20, [1, 20, 40, 50]), (50, [1, 50]), (99, [1, 50])])
def test_a_phase_reports_its_first_step_and_its_last(every, steps):
    """By its first step the gateway knows that it is not this forward that killed a replica."""
    reporter = ProgressReporter(StepTimeEstimator(), Counters(), 10, lambda: 100.0)
    job, events = toy_job(ToyNetwork(), 50, progress_every=every), []
    job.begin(100.0)
    job.emit = events.append
    for step in range(1, 51):
        job.step = step
        job.record_forward(1, shared=False, now=100.0)
        reporter.report(job, None, 1)
    assert [event.step for event in events if isinstance(event, Progress)] == steps
