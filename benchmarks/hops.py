"""What a hop costs by payload: Ray Serve's gRPC proxy beside a plain gRPC server."""

import asyncio
import time
from functools import partial
from statistics import median
from typing import Any

import grpc
import numpy as np

from benchmarks.child import child
from benchmarks.cluster import cluster
from benchmarks.figures import marginal, median_ratio
from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc, encoders_pb2, encoders_pb2_grpc, tensor_pb2
from kandinsky.v1 import sampling_pb2 as sampling
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS

METADATA = (("application", "echo"),)
UNARY, STREAM = (100, 80_000, 2_000_000), (10_000, 150_000)
"""Bytes: of request and answer each, and of each event."""


def measure(setup: Setup, say: Say) -> Report:
    """One call at a time; the two servers take turns."""
    rounds, calls, events = (3, 20, 50) if setup.quick else (9, 100, 200)
    say("starting an echo behind Ray Serve, and a plain one")
    with (
        cluster("benchmarks.echo:build", {"echo": {}}) as [served],
        child("benchmarks.echo") as plain,
    ):
        found = asyncio.run(_measured((served, plain), rounds, calls, events, say))
    rows = [
        {
            "hop": name,
            "through Serve's proxy, ms": median(served) * 1e3,
            "plain gRPC, ms": median(plain) * 1e3,
            "times the plain one": median_ratio(served, plain),
        }
        for name, (served, plain) in found.items()
    ]
    return Report(
        title="Cost of a hop",
        rows=rows,
        note=(
            "One call at a time to a servicer that computes nothing, behind Ray Serve's gRPC proxy "
            "and behind a grpc.aio server in a process of its own. A unary call carries its "
            f"payload both ways. A stream sends {events} events as fast as it can; an event's cost "
            f"is what each one after the first adds. Medians over {rounds} interleaved rounds."
        ),
        plot=bars(rows, "hop", "times the plain one"),
        raw=found,
    )


async def _measured(
    addresses: tuple[str, str], rounds: int, calls: int, events: int, say: Say
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of each round's median, behind both servers, by hop."""
    hops = {f"unary call, {size / 1000:g} kB": partial(_unary, size, calls) for size in UNARY}
    hops |= {f"stream event, {size / 1000:g} kB": partial(_event, size, events) for size in STREAM}
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in hops}
    async with (
        grpc.aio.insecure_channel(addresses[0], options=OPTIONS) as served,
        grpc.aio.insecure_channel(addresses[1], options=OPTIONS) as plain,
    ):
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "warming up")
            for name, hop in hops.items():
                for channel, seconds in zip((served, plain), found[name], strict=True):
                    taken = await hop(channel)
                    if number:
                        seconds.append(taken)
    return found


async def _unary(size: int, calls: int, channel: grpc.aio.Channel) -> float:
    encoders: Any = encoders_pb2_grpc.EncoderServiceStub(channel)
    request = encoders_pb2.EncodeImageRequest(pixels=_tensor(size))
    taken = []
    for _ in range(calls):
        begun = time.perf_counter()
        await encoders.EncodeImage(request, metadata=METADATA)
        taken.append(time.perf_counter() - begun)
    return median(taken)


async def _event(size: int, events: int, channel: grpc.aio.Channel) -> float:
    decoder: Any = decoder_pb2_grpc.DecoderServiceStub(channel)
    taken = []
    for steps in (1, events):
        asked = decoder_pb2.DecodeRequest(
            sampling=sampling.Sampling(steps=steps), generator_state=_tensor(size)
        )
        begun = time.perf_counter()
        async for _ in decoder.Decode(asked, metadata=METADATA):
            pass
        taken.append(time.perf_counter() - begun)
    return marginal(taken[1], taken[0], events)


def _tensor(size: int) -> tensor_pb2.Tensor:
    return tensors.encode(np.zeros(size, np.uint8))
