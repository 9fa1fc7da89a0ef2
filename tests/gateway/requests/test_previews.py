"""Previews on their way through the gateway."""

import pytest

from kandinsky.v1 import decoder_pb2, generation_pb2, sampling_pb2
from kandinsky.wire.errors import Reason
from tests.gateway import messages
from tests.gateway.errors import failure

DECODE = sampling_pb2.PREVIEW_MODE_DECODE


def request(**events: object) -> generation_pb2.GenerateRequest:
    return messages.request(events=events)


def asked(stages) -> decoder_pb2.DecodeRequest:
    [decode] = [call.request for call in stages.calls if call.method == "Decode"]
    return decode


async def streamed(api, **events: object) -> None:
    async for _ in api.Generate(request(**events)):
        pass


async def test_what_is_asked_for_reaches_the_decoder(api, stages):
    await streamed(api, preview_every=3, preview_mode=DECODE)
    assert (asked(stages).preview_every, asked(stages).preview_mode) == (3, DECODE)


async def test_nothing_is_asked_for_by_itself(api, stages):
    await streamed(api)
    assert not asked(stages).HasField("preview_every")
    assert not asked(stages).sampling.HasField("progress_every")


async def test_one_answer_needs_no_preview_and_the_least_progress(api, stages):
    await api.GenerateImages(request(preview_every=3, preview_mode=DECODE, progress_every=1))
    assert not asked(stages).HasField("preview_every")
    for call in stages.calls[1:]:
        assert call.request.sampling.progress_every == call.request.sampling.steps


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"preview_every": 0}, "events.preview_every"),
        ({"preview_every": -1}, "events.preview_every"),
        ({"preview_every": 1, "preview_mode": 9}, "events.preview_mode"),
        ({"preview_mode": DECODE}, "events.preview_mode"),
    ],
)
async def test_what_cannot_be_is_named(api, stages, settings, field):
    error = await failure(api.Generate(request(**settings)))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [field]
    assert not stages.calls


async def test_a_preview_reaches_the_caller(api, stages):
    stages.previews = 2
    events = [event async for event in api.Generate(request(preview_every=1))]
    previews = [event.preview.step for event in events if event.HasField("preview")]
    assert previews == [1, 2]
