"""Previews on their way through the gateway."""

import pytest

from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure

DECODE = sampling_pb2.PREVIEW_MODE_DECODE


def request(**settings: object) -> generation.TextToImageRequest:
    return generation.TextToImageRequest(model="tiny", prompts=["a"], settings=settings)


def asked(stages) -> decoder_pb2.DecodeRequest:
    [decode] = [call.request for call in stages.calls if call.method == "Decode"]
    return decode


async def test_what_is_asked_for_reaches_the_decoder(api, stages):
    await api.TextToImageUnary(request(preview_every=3, preview_mode=DECODE))
    assert (asked(stages).preview_every, asked(stages).preview_mode) == (3, DECODE)


async def test_nothing_is_asked_for_by_itself(api, stages):
    await api.TextToImageUnary(request())
    assert asked(stages).preview_every == 0


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"preview_every": 0}, "settings.preview_every"),
        ({"preview_every": -1}, "settings.preview_every"),
        ({"preview_every": 1, "preview_mode": 9}, "settings.preview_mode"),
        ({"preview_mode": DECODE}, "settings.preview_mode"),
    ],
)
async def test_what_cannot_be_is_named(api, stages, settings, field):
    error = await failure(api.TextToImage(request(**settings)))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [field]
    assert not stages.calls


async def test_a_preview_reaches_the_caller(api, stages):
    stages.previews = 2
    events = [event async for event in api.TextToImage(request(preview_every=1))]
    previews = [event.preview.step for event in events if event.HasField("preview")]
    assert previews == [1, 2]
