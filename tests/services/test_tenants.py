"""On whose behalf, how urgent and until when: what a call's metadata says reaches the engine."""

import time

import pytest

from kandinsky.v1 import decoder_pb2
from kandinsky.wire.errors import KandinskyError
from tests.services.asking import decode_request, prior_request, random_tensor, sent_image
from tests.services.conftest import StageStubs, fields

METADATA = {"x_tenant": "studio 7", "x_priority": "-3", "x_time_remaining_ms": "60000"}


async def test_it_reaches_the_engine_from_every_call(stages: StageStubs) -> None:
    begun = time.monotonic()
    await stages.sample_embedding(prior_request(), **METADATA)
    await stages.decode(decode_request("noise"), **METADATA)
    encode = decoder_pb2.EncodeLatentsRequest(pixels=sent_image())
    await stages.decoder("EncodeLatents", encode, **METADATA)
    decode = decoder_pb2.DecodeLatentsRequest(latents=random_tensor(4, 8, 8, seed=1))
    await stages.decoder("DecodeLatents", decode, **METADATA)
    jobs = [*stages.host.prior.asked, *stages.host.decoder.asked]
    assert [(job.tenant, job.priority) for job in jobs] == [("studio 7", -3)] * 4
    for job in jobs:
        assert begun + 60 <= job.deadline <= time.monotonic() + 60


async def test_what_is_not_said_is_nobody_s_usual_job_without_a_deadline(
    stages: StageStubs,
) -> None:
    await stages.decode(decode_request("noise"))
    [job] = stages.host.decoder.asked
    assert (job.tenant, job.priority, job.deadline) == ("", 0, float("inf"))


async def test_a_priority_that_is_no_integer_is_refused(stages: StageStubs) -> None:
    with pytest.raises(KandinskyError) as error:
        await stages.decode(decode_request("noise"), x_priority="high")
    assert fields(error.value) == ["x-priority"]
    assert not stages.host.decoder.asked
