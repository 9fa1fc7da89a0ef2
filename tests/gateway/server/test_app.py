"""The server around every RPC: request ids, quota, health, reflection, drain, the process."""

import asyncio
import gc
import json
import socket
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.server.image_work import ImageWork
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import models_pb2
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.errors import KandinskyError, Reason
from tests.gateway.errors import failure
from tests.gateway.fakes import Hold

REQUEST = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def initial_metadata(call):
    return dict(await call.initial_metadata())


async def until(channel, service, status):
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=service)
    )
    async for response in watch:
        if response.status == status:
            watch.cancel()
            return


async def test_request_id_goes_to_every_stage_and_back(api, stages):
    call = api.Generate(REQUEST, metadata=(("x-request-id", "order 66"),))
    async for _ in call:
        pass
    assert (await initial_metadata(call))["x-request-id"] == "order 66"
    assert {c.metadata["x-request-id"] for c in stages.calls} == {"order 66"}


@pytest.mark.parametrize("given", ["", "x" * 129])
async def test_a_bad_request_id_is_replaced(api, given):
    call = api.ListModels(models_pb2.ListModelsRequest(), metadata=(("x-request-id", given),))
    made = (await initial_metadata(call))["x-request-id"]
    assert len(made) == 32
    await call


async def test_request_id_comes_with_an_error(api):
    call = api.GenerateImages(generation.GenerateRequest(), metadata=(("x-request-id", "7"),))
    await failure(call)
    assert (await initial_metadata(call))["x-request-id"] == "7"


async def test_an_internal_error_reveals_only_its_request_id(api, monkeypatch):
    async def fail(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ImageWork, "_finish", fail)
    error = await failure(api.Generate(REQUEST, metadata=(("x-request-id", "7"),)))
    assert (error.reason, error.metadata) == (Reason.INTERNAL, {"request_id": "7"})
    assert "secret" not in error.message


async def test_list_models(api):
    response = await api.ListModels(models_pb2.ListModelsRequest())
    by_name = {model.name: model for model in response.models}
    assert list(by_name) == [
        "attending",
        "hinted",
        "priorless",
        "reader",
        "textless",
        "tiny",
        "upscaling",
    ]
    assert by_name["tiny"] == models_pb2.Model(
        name="tiny",
        description="A model with every stage.",
        family="kandinsky-2-2",
        guides=[
            *("GUIDE_KIND_TEXT", "GUIDE_KIND_MIX", "GUIDE_KIND_INTERPOLATION"),
            *("GUIDE_KIND_IMAGE", "GUIDE_KIND_TEXT_DIFF", "GUIDE_KIND_EMBEDDINGS"),
        ],
        canvases=[
            *("CANVAS_KIND_NOISE", "CANVAS_KIND_IMAGE"),
            *("CANVAS_KIND_INPAINT", "CANVAS_KIND_OUTPAINT"),
        ],
        control="CONTROL_SUPPORT_NONE",
        height=64,
        width=128,
        limits={
            "size_multiple": 64,
            "min_size": 64,
            "max_size": 1024,
            "max_prompt_characters": 40,
            "max_images": 8,
        },
        samplers=[
            sampler("prior", 5, 2, min_steps=2),
            sampler("decoder", 7, 3),
        ],
    )
    assert by_name["hinted"].control == models_pb2.CONTROL_SUPPORT_REQUIRED
    assert by_name["reader"].decoder_reads_text
    priorless = by_name["priorless"]
    assert [each.group for each in priorless.samplers] == ["decoder"]
    assert list(priorless.canvases) == [
        models_pb2.CANVAS_KIND_NOISE,
        models_pb2.CANVAS_KIND_IMAGE,
    ]
    assert list(by_name["textless"].guides) == [models_pb2.GUIDE_KIND_EMBEDDINGS]


def sampler(group, steps, guidance_scale, min_steps=1):
    return models_pb2.Sampler(
        group=group,
        steps=steps,
        min_steps=min_steps,
        max_steps=50,
        guidance_scale=guidance_scale,
        strength=0.3,
    )


async def test_one_request_too_many(gateway_at, stages):
    hold = stages.holds["EncodeText"] = Hold()
    async with gateway_at(max_requests=1) as (_, channel):
        api = GenerationServiceStub(channel)
        call = api.GenerateImages(REQUEST)
        await hold.asked.wait()
        error = await failure(api.Generate(REQUEST))
        assert error.reason is Reason.OVERLOADED
        assert error.retry_after > 0
        hold.released.set()
        assert len((await call).images) == 1
        del stages.holds["EncodeText"]
        assert len((await api.GenerateImages(REQUEST)).images) == 1


async def test_health(gateway_at, stages):
    async with gateway_at(probe_seconds=0.1) as (_, channel):
        await until(channel, "", SERVING)
        await until(channel, "kandinsky.v1.GenerationService", SERVING)
        await until(channel, "tiny", SERVING)
        await until(channel, "priorless", SERVING)
        assert stages.calls == []
        await stages.stop()
        await until(channel, "tiny", NOT_SERVING)
        await until(channel, "", SERVING)


async def test_reflection(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    answer = await call.read()
    names = {service.name for service in answer.list_services_response.service}
    assert {"kandinsky.v1.GenerationService", "grpc.health.v1.Health"} <= names


async def test_drain(gateway_at, stages):
    hold = stages.holds["Decode"] = Hold()
    async with gateway_at(drain_seconds=60) as (gateway, channel):
        api = GenerationServiceStub(channel)
        call = api.GenerateImages(REQUEST)
        await hold.asked.wait()
        stopping = asyncio.create_task(gateway.stop())
        await until(channel, "", NOT_SERVING)
        await until(channel, "tiny", NOT_SERVING)
        error = await failure(api.Generate(REQUEST))
        assert error.reason is Reason.DRAINING
        assert error.retry_after > 0
        hold.released.set()
        assert len((await call).images) == 1
        await stopping


async def start(*arguments):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stderr=asyncio.subprocess.PIPE
    )


async def test_process_logs_json_and_drains_on_sigterm(stages):
    process = await start("--listen", "127.0.0.1:0", "--stages", stages.address)
    lines = [await process.stderr.readline()]
    listening = json.loads(lines[0])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listening['port']}") as channel:
        api = GenerationServiceStub(channel)
        await failure(api.GenerateImages(REQUEST, metadata=(("x-request-id", "7"),)))
        process.terminate()
        _, rest = await process.communicate()
    assert process.returncode == 0
    entries = [json.loads(line) for line in rest.splitlines()]
    assert any(
        (e["event"], e.get("request_id"), e.get("outcome")) == ("request", "7", "MODEL_NOT_FOUND")
        for e in entries
    )


@pytest.mark.parametrize("case", ["taken port", "unknown model", "bad address"])
async def test_process_that_cannot_start_names_the_cause_in_one_sentence(case):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = {
            "taken port": ["--listen", f"127.0.0.1:{taken.getsockname()[1]}"],
            "unknown model": ["--listen", "127.0.0.1:0", "--model", "nonesuch"],
            "bad address": ["--listen", "nowhere"],
        }
        process = await start(*arguments[case])
        _, said = await process.communicate()
    assert process.returncode == 1
    assert len(said.splitlines()) == 1


FAILING = {
    "refused when it is validated": ({"decoder": {"steps": 0}}, None),
    "refused by a stage": ({}, KandinskyError(Reason.INVALID_FIELD, "no")),
    "an internal error of a stage": ({}, KandinskyError(Reason.INTERNAL, "broken")),
}


@pytest.mark.parametrize(("fields", "error"), FAILING.values(), ids=FAILING)
async def test_the_message_of_a_failed_request_is_freed_at_once(channel, stages, fields, error):
    """A message may be 64 MiB; the garbage collector's full passes are minutes apart."""
    request = generation.GenerateRequest(model="tiny", guide=REQUEST.guide, **fields)
    body = request.SerializeToString()
    del request
    if error is not None:
        stages.failures["EncodeText"].append(error)
    send = channel.unary_unary("/kandinsky.v1.GenerationService/GenerateImages")
    gc.collect()
    gc.disable()
    try:
        before = requests_alive()
        await failure(send(body))
        assert requests_alive() == before
    finally:
        gc.enable()


def requests_alive():
    return sum(isinstance(each, generation.GenerateRequest) for each in gc.get_objects())
