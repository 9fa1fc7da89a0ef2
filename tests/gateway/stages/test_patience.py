"""The time that a broken stage call may take, on a clock of the test's own."""

import pytest

from gateway.stages.patience import LONGEST_PAUSE, Patience


def test_time_runs_from_a_break_to_the_next_answer(clock):
    patience = Patience(60)
    clock.now += 1000
    assert (patience.silence, patience.is_broken) == (60, False)
    patience.note_break()
    clock.now += 25
    assert (patience.silence, patience.is_broken) == (35, True)
    patience.note_answer()
    clock.now += 1000
    assert (patience.silence, patience.is_broken, patience.is_over) == (60, False, False)
    patience.note_break()
    clock.now += 30
    assert patience.silence == 5
    assert not patience.is_over
    clock.now += 5
    assert patience.is_over


def test_further_breaks_without_an_answer_give_no_time(clock):
    patience = Patience(60)
    for _ in range(12):
        patience.note_break()
        clock.now += 5
    assert patience.is_over


def test_a_job_that_comes_further_has_all_its_time_again(clock):
    patience = Patience(60)
    patience.note_break()
    clock.now += 55
    patience.renew()
    patience.note_break()
    assert patience.silence == 60


@pytest.mark.parametrize("is_broken", [True, False])
def test_time_does_not_run_while_it_is_suspended(clock, is_broken):
    patience = Patience(60)
    if is_broken:
        patience.note_break()
    clock.now += 10
    before = patience.silence, patience.is_broken
    with patience.suspended():
        clock.now += 1000
    assert (patience.silence, patience.is_broken) == before


@pytest.mark.usefixtures("clock")
def test_pauses_double_up_to_the_longest_and_differ():
    calls = [Patience(60) for _ in range(20)]
    drawn = []
    for _ in range(40):
        for patience in calls:
            patience.note_break()
        drawn.append([patience.pause for patience in calls])
    bounds = [min(LONGEST_PAUSE, 0.1 * 2**k) for k in range(40)]
    for pauses, bound in zip(drawn, bounds, strict=True):
        assert all(bound / 2 <= pause <= bound for pause in pauses)
        assert len(set(pauses)) > 1


def test_no_pause_goes_beyond_the_time(clock):
    patience = Patience(0.04)
    patience.note_break()
    assert patience.is_over
