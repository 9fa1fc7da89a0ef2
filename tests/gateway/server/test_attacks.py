"""Attacks on a gateway process of its own: its memory stays bounded, and other tenants are served.

`make bench ARGS=attacks` measures the same, and more, on a whole system.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import Reason, from_rpc_error
from tests.gateway.fakes import Hold
from tests.gateway.server.test_image_work import LARGEST, png

ATTACKER, OTHER = ((("x-tenant", name),) for name in ("attacker", "other"))
MOST_GIB = 1.0
SMALL = {"height": 64, "width": 64}
IMAGE = png((64, 64), "RGB")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@asynccontextmanager
async def gateway_process(catalog, stages):
    """Start a gateway as `kandinsky up` does; yield its process id and a channel to it."""
    for name in ("priorless", "textless"):  # of a family that only the tests' process registers
        (catalog / f"{name}.yaml").unlink()
    words = ("--listen", "127.0.0.1:0", "--stages", stages.address, "--model", "tiny")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words, "--catalog", str(catalog)),
        *("--drain-seconds", "0", "--die-with-parent"),
        stderr=asyncio.subprocess.PIPE,
    )
    reading = None
    try:
        while (line := json.loads(await process.stderr.readline()))["event"] != "listening":
            pass
        reading = asyncio.create_task(process.stderr.read())
        address = f"127.0.0.1:{line['port']}"
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            yield process.pid, channel
    finally:
        process.terminate()
        await process.wait()
        if reading is not None:
            await reading


def peak_gib(pid):
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    [kib] = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib / 2**20


async def outcome(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    return "OK"


async def test_large_images_bring_down_neither_memory_nor_others(catalog, stages):
    hold = stages.holds["EncodeImage"] = Hold()
    variation = generation.GenerateRequest(
        model="tiny", guide={"image": {"images": [LARGEST]}}, decoder=SMALL
    )
    masks = generation.GenerateRequest(
        model="tiny",
        guide={"text": {"prompts": ["a"]}},
        canvas={"inpaint": {"images": [IMAGE], "masks": [LARGEST] * 8}},
    )
    async with gateway_process(catalog, stages) as (pid, channel):
        stub = GenerationServiceStub(channel)
        attack = [
            asyncio.create_task(outcome(stub.GenerateImages(variation, metadata=ATTACKER)))
            for _ in range(12)
        ]
        refused = [outcome(stub.GenerateImages(masks, metadata=ATTACKER)) for _ in range(3)]
        assert await asyncio.gather(*refused) == [Reason.INVALID_FIELD] * 3
        await stages.called("EncodeImage", 2)
        small = generation.GenerateRequest(
            model="tiny",
            guide={"text": {"prompts": ["a"]}},
            canvas={"image": {"images": [IMAGE]}},
        )
        assert await outcome(stub.GenerateImages(small, metadata=OTHER)) == "OK"
        text = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})
        assert await outcome(stub.GenerateImages(text, metadata=OTHER)) == "OK"
        assert "OK" not in {task.result() for task in attack if task.done()}
        hold.released.set()
        outcomes = await asyncio.gather(*attack)
        assert set(outcomes) <= {"OK", Reason.OVERLOADED}
        assert outcomes.count("OK") >= 2
        assert peak_gib(pid) < MOST_GIB, peak_gib(pid)


async def test_two_million_prompts_bring_down_neither_memory_nor_others(catalog, stages):
    body = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"] * 2_000_000}})
    data = body.SerializeToString()
    async with gateway_process(catalog, stages) as (pid, channel):
        send = channel.unary_unary("/kandinsky.v1.GenerationService/GenerateImages")
        attack = [asyncio.create_task(outcome(send(data, metadata=ATTACKER))) for _ in range(2)]
        text = generation.GenerateRequest(model="tiny", guide={"text": {"prompts": ["a"]}})
        stub = GenerationServiceStub(channel)
        assert await outcome(stub.GenerateImages(text, metadata=OTHER)) == "OK"
        assert await asyncio.gather(*attack) == [Reason.INVALID_FIELD] * 2
        assert peak_gib(pid) < MOST_GIB
