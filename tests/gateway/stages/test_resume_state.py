"""How far a job has come, by the events of the replicas that it was on."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.stages.resume_state import ResumeState
from kandinsky.v1 import decoder_pb2, sampling_pb2

REQUEST = decoder_pb2.DecodeRequest(sampling=sampling_pb2.Sampling(steps=30, seed=1))
EVERY = 10
LOOP, DECODE = ("denoise", 30), ("decode", 1)


def step(phase, number):
    name, steps = phase
    news = sampling_pb2.Progress(phase=name, step=number, steps=steps)
    return decoder_pb2.DecodeEvent(progress=news)


def checkpoint(phase, number):
    return decoder_pb2.DecodeEvent(checkpoint=sampling_pb2.Checkpoint(phase=phase, step=number))


def walk(trail, start, end):
    """A replica's events from one place of the job to another; those that the trail lets pass."""
    told = []
    for place in range(start + 1, end + 1):
        event = step(LOOP, place) if place <= 30 else step(DECODE, place - 30)
        if trail.note(event):
            told.append(place)
        if place % EVERY == 0 and place < 30:
            assert not trail.note(checkpoint(0, place))
    return told


@given(st.lists(st.integers(0, 31), max_size=6))
def test_every_step_is_told_once_and_what_is_done_again_is_counted(ends):
    trail, told, start, redone, most = ResumeState(REQUEST), [], 0, 0, 0
    for end in ends:
        end = max(start, end)
        told += walk(trail, start, end)
        trail.broke()
        start = min(end // EVERY * EVERY, 20)
        redone, most = redone + end - start, max(most, end - start)
        assert trail.request.resume_from.step == start
    told += walk(trail, start, 31)
    assert told == list(range(1, 32))
    assert (trail.resumes, trail.steps_redone, trail.most_steps_redone) == (
        len(ends),
        redone,
        most,
    )
    assert most <= EVERY + 1  # the pass after the loop


def test_the_next_replica_is_asked_for_the_rest_of_the_same():
    trail = ResumeState(REQUEST)
    assert trail.request == REQUEST
    walk(trail, 0, 13)
    trail.broke()
    expected = decoder_pb2.DecodeRequest()
    expected.CopyFrom(REQUEST)
    expected.resume_from.CopyFrom(checkpoint(0, 10).checkpoint)
    assert trail.request == expected
    assert not REQUEST.HasField("resume_from")


def test_an_attempt_gains_only_by_coming_further_than_all_before():
    trail = ResumeState(REQUEST)
    assert not trail.broke()
    walk(trail, 0, 9)
    assert trail.broke()
    for end in (9, 3, 0):
        walk(trail, 0, end)
        assert not trail.broke()
    walk(trail, 0, 10)
    assert trail.broke()


def test_a_checkpoint_alone_is_a_gain():
    trail = ResumeState(REQUEST)
    trail.note(step(LOOP, 1))  # news of steps come ten times a second, checkpoints always
    trail.note(checkpoint(0, 10))
    assert trail.broke()
    assert trail.steps_redone == 0
    assert trail.note(step(LOOP, 11))


def test_a_pass_before_the_loop_is_taken_again_and_told_once():
    trail, encode = ResumeState(REQUEST), ("encode", 1)
    assert trail.note(step(encode, 1))
    assert trail.note(step(LOOP, 10))
    trail.note(checkpoint(1, 10))
    assert trail.note(step(LOOP, 12))
    assert trail.broke()
    assert trail.steps_redone == 2
    assert not trail.note(step(encode, 1))
    assert not trail.note(step(LOOP, 11))
    assert trail.note(step(LOOP, 13))
    assert trail.steps_redone == 3
    assert trail.note(step(LOOP, 30))
    assert trail.note(step(DECODE, 1))


def test_the_pass_before_the_loop_counts_for_the_move_that_it_is_taken_again_in():
    trail, encode = ResumeState(REQUEST), ("encode", 1)
    trail.note(step(encode, 1))
    trail.note(step(LOOP, 10))
    trail.note(checkpoint(1, 10))
    for end in (14, 12):
        trail.note(step(LOOP, end))
        trail.broke()
        trail.note(step(encode, 1))
    assert (trail.steps_redone, trail.most_steps_redone) == (4 + 1 + 2 + 1, 4 + 1)
    stats = sampling_pb2.SamplingStats()
    trail.write(stats)
    assert (stats.resumes, stats.steps_redone, stats.most_steps_redone) == (2, 8, 5)


def test_the_place_where_a_job_may_be_to_blame_is_a_phase_s_first_forward():
    trail = ResumeState(REQUEST)
    assert trail.untried is None  # no replica has it yet
    trail.note(queued(3))
    assert trail.untried is None  # others go before it
    trail.note(queued(0))
    assert trail.untried == 0
    trail.note(step(LOOP, 1))
    assert trail.untried is None  # a forward like those that went well
    trail.note(step(LOOP, 30))
    assert trail.untried == 30
    trail.broke()
    assert trail.untried is None
    walk(trail, 0, 29)
    assert trail.untried is None
    trail.note(step(LOOP, 30))
    assert trail.untried == 30


def test_a_phase_that_was_begun_once_is_nobody_s_fault():
    trail = ResumeState(REQUEST)
    trail.note(step(LOOP, 1))
    trail.broke()
    trail.note(queued(0))
    assert trail.untried is None


def queued(position):
    return decoder_pb2.DecodeEvent(queued=sampling_pb2.Queued(position=position))


def test_a_preview_is_told_once():
    trail = ResumeState(REQUEST)
    preview = decoder_pb2.DecodeEvent(preview=sampling_pb2.Preview(step=5))
    walk(trail, 0, 5)
    assert trail.note(preview)
    trail.broke()
    walk(trail, 0, 5)
    assert not trail.note(preview)


def test_a_sign_of_life_is_nobody_s_news():
    assert not ResumeState(REQUEST).note(decoder_pb2.DecodeEvent())
    assert ResumeState(REQUEST).note(
        decoder_pb2.DecodeEvent(queued=sampling_pb2.Queued(position=1))
    )
