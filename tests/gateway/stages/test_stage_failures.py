"""Stages that refuse, break or stay silent, and the error that the caller gets."""

import asyncio

import grpc
import grpc.aio
import numpy as np
import pytest

from gateway.stages import patience
from gateway.stages.stage_calls import StageCalls
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from kandinsky.wire.tensors import encode
from tests.gateway.errors import failure
from tests.gateway.fakes import FakeStages, Hold

REQUEST = generation.GenerateRequest(
    model="tiny",
    guide={"text": {"prompts": ["a", "b"]}},
    negative={"texts": ["", "x"]},
    seed=5,
)

TRANSLATED = [
    ("EncodeText", "texts[0]", "guide.text.prompts[0]"),
    ("EncodeText", "texts[2]", "negative.texts[1]"),
    ("SampleEmbedding", "sampling.steps", "prior.steps"),
    ("SampleEmbedding", "latents.shape", "prior.latents.shape"),
    ("Decode", "start.noise.noise.shape", "decoder.latents.shape"),
    ("Decode", "start.height", "decoder.height"),
    ("Decode", "conditioning.image_embed", "guide.text.prompts[0]"),
    ("Decode", "start.heights", "start.heights"),
]


@pytest.mark.parametrize(("method", "field", "public"), TRANSLATED)
async def test_violations_name_the_public_field(api, stages, method, field, public):
    stages.failures[method].append(invalid(field, "does not fit"))
    error = await failure(api.Generate(REQUEST))
    assert error.reason is Reason.INVALID_FIELD
    assert [(v.field, v.description) for v in error.violations] == [(public, "does not fit")]


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
async def test_an_error_of_a_stage_is_passed_on(api, stages, method):
    stages.failures[method].append(KandinskyError(Reason.OVERLOADED, "full", retry_after=2.5))
    error = await failure(api.GenerateImages(REQUEST))
    assert (error.reason, error.message, error.retry_after) == (Reason.OVERLOADED, "full", 2.5)
    assert sum(call.method == method for call in stages.calls) <= 3


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)


AWAY = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.NOT_FOUND]


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
@pytest.mark.parametrize("codes", [[grpc.StatusCode.INTERNAL], AWAY * 10])
@pytest.mark.usefixtures("short_pauses")
async def test_broken_infrastructure_is_retried_until_it_answers(api, stages, method, codes):
    stages.failures[method].extend(codes)
    undisturbed = (await api.GenerateImages(REQUEST)).images
    assert not stages.failures[method]
    assert [(image.index, image.seed) for image in undisturbed] == [(0, 5), (1, 6)]


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
async def test_a_proxy_that_is_killed_costs_nothing(api, stages, method):
    hold = stages.holds[method] = Hold()
    asked = asyncio.ensure_future(api.GenerateImages(REQUEST))
    await hold.asked.wait()
    await stages.stop()
    async with FakeStages(stages.address):
        assert len((await asked).images) == 2


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
async def test_a_caller_that_disconnects_while_the_proxy_is_away(api, stages, method, pausing):
    hold = stages.holds[method] = Hold()
    asked = api.GenerateImages(REQUEST)
    await hold.asked.wait()
    await stages.stop()
    await pausing.entered.wait()
    asked.cancel()
    await pausing.left.wait()


class Pausing:
    """Pauses that do not end."""

    def __init__(self):
        self.entered, self.left = asyncio.Event(), asyncio.Event()

    async def pause(self, _):
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.fixture
def pausing(monkeypatch):
    pausing = Pausing()
    monkeypatch.setattr(StageCalls, "_pause", pausing.pause)
    return pausing


def asked(stages, method):
    return [call.request for call in stages.calls if call.method == method]


async def test_a_stream_that_breaks_before_a_snapshot_is_started_again(api, stages):
    stages.breaks_midway["SampleEmbedding"] = 1
    images = (await api.GenerateImages(REQUEST)).images
    requests = asked(stages, "SampleEmbedding")
    assert any(requests.count(request) == 2 for request in requests)
    stats = [image.prior_stats for image in images]
    assert sorted((one.resumes, one.steps_redone) for one in stats) == [(0, 0), (1, 1)]


async def test_a_stream_that_breaks_resumes_from_its_snapshot(api, stages):
    stages.breaks_midway["Decode"] = 2
    images = (await api.GenerateImages(REQUEST)).images
    assert [image.decoder_stats.resumes for image in images] in ([1, 1], [2, 0], [0, 2])
    assert [image.decoder_stats.steps_redone for image in images] == [0, 0]
    resumed = [r for r in asked(stages, "Decode") if r.HasField("resume_from")]
    assert [request.resume_from.step for request in resumed] == [1, 1]
    for request in resumed:
        request.ClearField("resume_from")
        assert request in asked(stages, "Decode")


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
async def test_a_replica_that_drains_is_left_for_another(api, stages, method):
    draining = KandinskyError(Reason.DRAINING, "shutting down", retry_after=0.1)
    stages.failures[method].extend([draining] * 4)
    assert len((await api.GenerateImages(REQUEST)).images) == 2


async def test_a_job_that_was_admitted_once_waits_for_room_elsewhere(api, stages):
    broke, full = grpc.StatusCode.INTERNAL, KandinskyError(Reason.OVERLOADED, "full")
    stages.failures["Decode"].extend([broke, full, full])
    request = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})
    [image] = (await api.GenerateImages(request)).images
    assert image.decoder_stats.resumes == 3


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
async def test_a_stream_that_ends_without_its_result_is_started_again(api, stages, method):
    stages.ends_midway[method] = 1
    assert len((await api.GenerateImages(REQUEST)).images) == 2


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
async def test_a_stream_that_breaks_after_its_result_yields_it_once(api, stages, method):
    stages.breaks_at_the_end.add(method)
    events = [event async for event in api.Generate(REQUEST)]
    images = [event.image.index for event in events if event.HasField("image")]
    assert sorted(images) == [0, 1]


FOREVER = 100_000
ONE = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})


@pytest.fixture
def quick_pauses(clock, monkeypatch):
    """Pauses that take none but Patience's own time."""

    async def pause(_, patience):
        clock.now += patience.pause

    monkeypatch.setattr(StageCalls, "_pause", pause)


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
@pytest.mark.parametrize("code", AWAY)
@pytest.mark.usefixtures("quick_pauses")
async def test_a_stage_that_stays_away(gateway_at, stages, method, code):
    stages.failures[method].extend([code] * FOREVER)
    async with gateway_at(patience_seconds=10) as (_, channel):
        error = await failure(GenerationServiceStub(channel).Generate(ONE, timeout=60))
    assert error.reason is Reason.STAGE_UNAVAILABLE
    assert error.retry_after is not None
    assert error.metadata["stage"] in error.message
    assert ("runs no application" in error.message) == (code is grpc.StatusCode.NOT_FOUND)
    assert "Traceback" not in error.message
    assert 8 <= sum(call.method == method for call in stages.calls) <= 15


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
@pytest.mark.usefixtures("quick_pauses")
async def test_a_stream_that_never_comes_further(gateway_at, stages, method):
    stages.ends_midway[method] = FOREVER
    async with gateway_at(patience_seconds=10) as (_, channel):
        error = await failure(GenerationServiceStub(channel).Generate(ONE, timeout=60))
    assert error.reason is Reason.STAGE_UNAVAILABLE


async def test_a_proxy_that_stays_away(gateway_at, stages):
    async with gateway_at(patience_seconds=0.3) as (_, channel):
        await stages.stop()
        error = await failure(GenerationServiceStub(channel).Generate(ONE, timeout=60))
    assert (error.reason, error.metadata["stage"]) == (Reason.STAGE_UNAVAILABLE, "encoders")


async def test_a_stage_without_a_replica(gateway_at, stages):
    stages.holds["Decode"] = Hold()
    async with gateway_at(patience_seconds=0.1) as (_, channel):
        error = await failure(GenerationServiceStub(channel).Generate(REQUEST, timeout=30))
    assert (error.reason, error.metadata["stage"]) == (Reason.STAGE_UNAVAILABLE, "decoder")


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
async def test_cancel_reaches_the_stage(api, stages, method):
    hold = stages.holds[method] = Hold()
    call = api.Generate(REQUEST)
    reading = asyncio.create_task(failure(call))
    await hold.asked.wait()
    reading.cancel()
    call.cancel()
    await hold.cancelled.wait()


@pytest.mark.parametrize("method", ["EncodeText", "SampleEmbedding", "Decode"])
@pytest.mark.parametrize("form", ["Generate", "GenerateImages"])
async def test_deadline_reaches_the_stage(api, stages, method, form):
    hold = stages.holds[method] = Hold()
    for seconds in (0.5, 2, 8, 32):  # on a busy machine one may pass before the stage is asked
        call = getattr(api, form)(REQUEST, timeout=seconds)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            if form == "GenerateImages":
                await call
            async for _ in call:
                pass
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if hold.asked.is_set():
            break
    await hold.cancelled.wait()
    for stage_call in stages.calls:
        assert 0 < int(stage_call.metadata["x-time-remaining-ms"]) <= 1000 * seconds


async def test_a_request_without_a_deadline_gets_the_configured_one(gateway_at, stages):
    async with gateway_at(default_deadline_seconds=1000) as (_, channel):
        await GenerationServiceStub(channel).GenerateImages(REQUEST)
    assert stages.calls
    for call in stages.calls:
        assert 0 < int(call.metadata["x-time-remaining-ms"]) <= 1_000_000


async def test_one_failing_image_ends_the_others(gateway_at, stages):
    hold = stages.holds["Decode"] = Hold()
    async with gateway_at() as (_, channel):
        reading = asyncio.create_task(failure(GenerationServiceStub(channel).Generate(REQUEST)))
        await hold.asked.wait()
        stages.failures["Decode"].append(invalid("sampling", "late"))
        error = await reading
        assert error.reason is Reason.INVALID_FIELD
        await hold.cancelled.wait()


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
async def test_a_job_that_kills_two_replicas_is_not_sent_to_a_third(api, stages, method):
    stages.dies_at_work[method].extend([grpc.StatusCode.INTERNAL] * FOREVER)
    error = await failure(api.Generate(ONE))
    assert error.reason is Reason.INTERNAL
    assert "two replicas" in error.message
    assert error.metadata["stage"] in error.message
    assert sum(call.method == method for call in stages.calls) == 2


@pytest.mark.parametrize("method", ["EncodeText", "EncodeImage"])
async def test_nor_is_an_encoder_call(api, stages, method):
    stages.failures[method].extend([grpc.StatusCode.INTERNAL] * FOREVER)
    encoded = encode(np.zeros((64, 64, 3), np.uint8))
    guide = {"image": {"images": [{"pixels": encoded}]}}
    variation = generation.GenerateRequest(model="tiny", guide=guide)
    error = await failure(api.Generate(variation if method == "EncodeImage" else ONE))
    assert (error.reason, "two replicas" in error.message) == (Reason.INTERNAL, True)
    assert sum(call.method == method for call in stages.calls) == 2


@pytest.mark.parametrize("method", ["SampleEmbedding", "Decode"])
@pytest.mark.usefixtures("short_pauses")
async def test_a_proxy_that_dies_again_and_again_blames_no_job(api, stages, method):
    stages.dies_at_work[method].extend([grpc.StatusCode.UNAVAILABLE] * 10)
    assert len((await api.GenerateImages(ONE)).images) == 1


@pytest.mark.usefixtures("short_pauses")
async def test_replicas_that_die_midway_blame_no_job(api, stages):
    stages.breaks_midway["Decode"] = 10
    [image] = (await api.GenerateImages(ONE)).images
    assert image.decoder_stats.resumes == 10


class FatalStages(FakeStages):
    """A decoder that one seed's first forward kills, with whatever else it is at work on."""

    FATAL = 5

    def __init__(self):
        super().__init__()
        self.deaths = self.asked = 0
        self._both_at_work = asyncio.Barrier(2)

    async def _die_at_work(self, method, request, context):
        if method != "Decode":
            return
        self.asked += 1
        if not self.deaths:
            await self._both_at_work.wait()
        elif request.sampling.seed != self.FATAL:
            return
        self.deaths += request.sampling.seed == self.FATAL
        await context.abort(grpc.StatusCode.INTERNAL, "The actor died unexpectedly")


async def test_a_job_that_died_with_the_one_to_blame_is_made(gateway_at):
    seeds = FatalStages.FATAL, FatalStages.FATAL + 1
    fatal, innocent = (
        generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}}, seed=seed)
        for seed in seeds
    )
    async with FatalStages() as stages, gateway_at(stages=stages.address) as (_, channel):
        api = GenerationServiceStub(channel)
        error, made = await asyncio.gather(
            failure(api.Generate(fatal)), api.GenerateImages(innocent)
        )
    assert (error.reason, len(made.images)) == (Reason.INTERNAL, 1)
    assert (stages.deaths, stages.asked) == (2, 4)
