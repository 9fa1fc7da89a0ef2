"""The wait that a new job expects: as reported to the latest that wait, and no longer."""

from gateway.server.stage_queues import StageQueues


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_new_job_waits_as_long_as_the_latest():
    clock = Clock()
    queues = StageQueues(clock)
    queues.queued("a", 1, 30.0)
    queues.queued("a", 2, 40.0)
    assert (queues.wait("a"), queues.wait("b")) == (40, 0)
    clock.now = 15.0
    queues.queued("a", 1, 14.0)
    assert queues.wait("a") == 25
    queues.queued("a", 2, 5.0)
    assert queues.wait("a") == 5
    clock.now = 60.0
    assert queues.wait("a") == 0


def test_a_later_job_that_was_admitted_ends_the_expected_wait():
    queues = StageQueues(Clock())
    queues.queued("a", 1, 30.0)
    queues.queued("a", 2, 0.0)
    queues.admitted("a", 2)
    assert queues.wait("a") == 0
    queues.queued("a", 3, 20.0)
    assert queues.wait("a") == 20


def test_an_expected_wait_ends_with_its_job():
    queues = StageQueues(Clock())
    queues.queued("a", 1, 30.0)
    queues.queued("a", 2, 40.0)
    queues.left("a", 2)  # its caller went away: whoever comes next waits as the one before
    assert queues.wait("a") == 30
    queues.admitted("a", 1)
    queues.left("a", 1)
    assert queues.wait("a") == 0
    queues.queued("a", 3, 10.0)  # nothing is left of those before
    assert queues.wait("a") == 10
