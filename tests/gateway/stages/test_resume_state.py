"""How far a job has come, by the events of the replicas that it ran on."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.stages.resume_state import ResumeState
from kandinsky.v1 import decoder_pb2, sampling_pb2

REQUEST = decoder_pb2.DecodeRequest(sampling=sampling_pb2.Sampling(steps=30, seed=1))
EVERY = 10
LOOP, DECODE = ("denoise", 30), ("decode", 1)


def step(phase, number):
    name, steps = phase
    progress = sampling_pb2.Progress(phase=name, step=number, steps=steps)
    return decoder_pb2.DecodeEvent(progress=progress)


def snapshot(phase, number):
    return decoder_pb2.DecodeEvent(snapshot=sampling_pb2.Snapshot(phase=phase, step=number))


def run(state, start, end):
    """Note a replica's events from one step of the job to another; return those that are new."""
    reported = []
    for place in range(start + 1, end + 1):
        event = step(LOOP, place) if place <= 30 else step(DECODE, place - 30)
        if state.note(event):
            reported.append(place)
        if place % EVERY == 0 and place < 30:
            assert not state.note(snapshot(0, place))
    return reported


@given(st.lists(st.integers(0, 31), max_size=6))
def test_every_step_is_reported_once_and_what_is_done_again_is_counted(ends):
    state, reported, start, redone, most = ResumeState(REQUEST), [], 0, 0, 0
    for end in ends:
        end = max(start, end)
        reported += run(state, start, end)
        state.note_break()
        start = min(end // EVERY * EVERY, 20)
        redone, most = redone + end - start, max(most, end - start)
        assert state.request.resume_from.step == start
    reported += run(state, start, 31)
    assert reported == list(range(1, 32))
    assert (state.resumes, state.steps_redone, state.most_steps_redone) == (
        len(ends),
        redone,
        most,
    )
    assert most <= EVERY + 1  # the pass after the loop


def test_the_next_replica_is_asked_for_the_rest_of_the_same():
    state = ResumeState(REQUEST)
    assert state.request == REQUEST
    run(state, 0, 13)
    state.note_break()
    expected = decoder_pb2.DecodeRequest()
    expected.CopyFrom(REQUEST)
    expected.resume_from.CopyFrom(snapshot(0, 10).snapshot)
    assert state.request == expected
    assert not REQUEST.HasField("resume_from")


def test_an_attempt_gains_only_by_coming_further_than_all_before():
    state = ResumeState(REQUEST)
    assert not state.note_break()
    run(state, 0, 9)
    assert state.note_break()
    for end in (9, 3, 0):
        run(state, 0, end)
        assert not state.note_break()
    run(state, 0, 10)
    assert state.note_break()


def test_a_snapshot_alone_is_a_gain():
    state = ResumeState(REQUEST)
    state.note(step(LOOP, 1))  # steps are reported ten times a second, snapshots always
    state.note(snapshot(0, 10))
    assert state.note_break()
    assert state.steps_redone == 0
    assert state.note(step(LOOP, 11))


def test_a_pass_before_the_loop_is_taken_again_and_reported_once():
    state, encode = ResumeState(REQUEST), ("encode", 1)
    assert state.note(step(encode, 1))
    assert state.note(step(LOOP, 10))
    state.note(snapshot(1, 10))
    assert state.note(step(LOOP, 12))
    assert state.note_break()
    assert state.steps_redone == 2
    assert not state.note(step(encode, 1))
    assert not state.note(step(LOOP, 11))
    assert state.note(step(LOOP, 13))
    assert state.steps_redone == 3
    assert state.note(step(LOOP, 30))
    assert state.note(step(DECODE, 1))


def test_the_pass_before_the_loop_counts_for_the_resume_that_takes_it_again():
    state, encode = ResumeState(REQUEST), ("encode", 1)
    state.note(step(encode, 1))
    state.note(step(LOOP, 10))
    state.note(snapshot(1, 10))
    for end in (14, 12):
        state.note(step(LOOP, end))
        state.note_break()
        state.note(step(encode, 1))
    assert (state.steps_redone, state.most_steps_redone) == (4 + 1 + 2 + 1, 4 + 1)
    stats = sampling_pb2.SamplingStats()
    state.write(stats)
    assert (stats.resumes, stats.steps_redone, stats.most_steps_redone) == (2, 8, 5)


def test_a_job_may_be_to_blame_at_a_phase_s_first_forward():
    state = ResumeState(REQUEST)
    assert state.untried is None  # no replica has it yet
    state.note(queued(3))
    assert state.untried is None  # others go before it
    state.note(queued(0))
    assert state.untried == 0
    state.note(step(LOOP, 1))
    assert state.untried is None  # a forward like those that succeeded
    state.note(step(LOOP, 30))
    assert state.untried == 30
    state.note_break()
    assert state.untried is None
    run(state, 0, 29)
    assert state.untried is None
    state.note(step(LOOP, 30))
    assert state.untried == 30


def test_a_phase_that_was_begun_once_blames_nobody():
    state = ResumeState(REQUEST)
    state.note(step(LOOP, 1))
    state.note_break()
    state.note(queued(0))
    assert state.untried is None


def queued(position):
    return decoder_pb2.DecodeEvent(queued=sampling_pb2.Queued(position=position))


def test_a_preview_is_reported_once():
    state = ResumeState(REQUEST)
    preview = decoder_pb2.DecodeEvent(preview=sampling_pb2.Preview(step=5))
    run(state, 0, 5)
    assert state.note(preview)
    state.note_break()
    run(state, 0, 5)
    assert not state.note(preview)


def test_an_empty_event_is_not_passed_on():
    assert not ResumeState(REQUEST).note(decoder_pb2.DecodeEvent())
    assert ResumeState(REQUEST).note(
        decoder_pb2.DecodeEvent(queued=sampling_pb2.Queued(position=1))
    )
