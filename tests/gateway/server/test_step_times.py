"""The least time of a job is never more than it would take, whatever was measured before."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.server.step_times import MOST_KINDS, WINDOW, StepTimeEstimator
from kandinsky.v1 import sampling_pb2

SECONDS = st.floats(0, 10)
JOBS = st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.floats(0, 1)), min_size=1)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def stats(forwards, seconds, *, shared=0, peak=2, resumes=0):
    made = sampling_pb2.SamplingStats(
        forwards=forwards, shared_forwards=shared, peak_rows=peak, resumes=resumes
    )
    made.running.FromNanoseconds(round(seconds * 1e9))
    return made


@given(SECONDS, SECONDS, st.integers(1, 2), JOBS, st.integers(1, 60))
def test_never_more_than_a_job_takes_alone(step, pass_, passes, jobs, steps):
    times = StepTimeEstimator()
    for count, shared, crowding in jobs:
        seconds = count * step + passes * pass_
        if shared:  # a forward of eight rows takes one to four times as long as one of two
            seconds *= 1 + 3 * crowding
        times.note("a", stats(count + passes, seconds, shared=int(shared), peak=8), rows=2)
    assert times.least("a", steps) <= steps * step + passes * pass_ + 1e-6


def test_the_quickest_job_counts():
    times = StepTimeEstimator()
    for seconds in (80, 50, 60):
        times.note("a", stats(50, seconds), rows=2)
    assert times.least("a", 50) == 50
    assert times.least("a", 10) == 10
    assert times.least("a", 500) == 50  # of more steps than were seen: no less than those
    assert times.least("b", 50) == 0


def test_a_short_job_says_nothing_of_a_long_one():
    times = StepTimeEstimator()
    times.note("a", stats(51, 51), rows=2)
    times.note("a", stats(2, 1.5), rows=2)
    assert times.least("a", 50) == 50
    assert times.least("a", 1) == 0.75


def test_shared_forwards_count_where_nothing_else_is_known():
    times = StepTimeEstimator()
    times.note("a", stats(10, 40, shared=3, peak=8), rows=2)
    assert times.least("a", 10) == 10
    times.note("a", stats(10, 20), rows=2)
    assert times.least("a", 10) == 20


def test_a_job_that_moved_is_not_counted():
    times = StepTimeEstimator()
    times.note("a", stats(10, 5, resumes=1), rows=2)
    times.note("a", stats(0, 5), rows=2)
    assert times.least("a", 10) == 0


def test_what_was_measured_is_forgotten():
    clock = Clock()
    times = StepTimeEstimator(clock)
    times.note("a", stats(10, 5), rows=2)
    clock.now = WINDOW * 0.7
    assert times.least("a", 10) == 5
    times.note("a", stats(10, 9), rows=2)
    clock.now = WINDOW * 1.3
    assert times.least("a", 10) == 9
    clock.now = WINDOW * 3
    assert times.least("a", 10) == 0


def test_kinds_are_bounded():
    times = StepTimeEstimator()
    for kind in range(MOST_KINDS + 1):
        times.note(kind, stats(1, 1), rows=1)
    assert times.least(MOST_KINDS - 1, 1) == 1
    assert times.least(MOST_KINDS, 1) == 0
