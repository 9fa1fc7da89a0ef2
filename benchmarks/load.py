"""Load on a server: pictures asked for one a request, so many requests open at any time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.figures import Round
from benchmarks.messages import to_request
from benchmarks.workload import Picture
from kandinsky import AsyncClient, Generated
from kandinsky.client.requests import RPCS
from kandinsky.v1 import generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS


@dataclass(frozen=True)
class Made:
    """A finished picture, and what its decoder said."""

    png: bytes
    forwards: int
    shared_forwards: int
    """Those that held rows of other pictures too."""
    peak_rows: int


@dataclass(frozen=True)
class ServedRound(Round):
    """A round, and what its pictures say of the decoder."""

    made: tuple[Made, ...]
    """In the order of the pictures asked for."""

    @property
    def shared_share(self) -> float:
        """Share of the pictures' decoder forwards that held another picture's rows too."""
        shared = sum(one.shared_forwards for one in self.made)
        return shared / sum(one.forwards for one in self.made)

    @property
    def peak_rows(self) -> float:
        """Most rows in one decoder forward, mean over the pictures."""
        return sum(one.peak_rows for one in self.made) / len(self.made)


def made(image: Generated) -> Made:
    """A picture as the client library gives it."""
    stats = image.stats["decoder"]
    return Made(image.encoded or b"", stats.forwards, stats.shared_forwards, stats.peak_rows)


Ask = Callable[[Picture], Awaitable[Made]]


def served_round(
    address: str, model: str, pictures: Sequence[Picture], concurrency: int
) -> ServedRound:
    """Asks `kandinsky up` through the client library, with its stream of progress."""

    async def run() -> ServedRound:
        async with AsyncClient(address) as client:
            await client.list_models()  # connects

            async def ask(picture: Picture) -> Made:
                stream = client.stream(to_request(picture, model))
                [image] = [event async for event in stream if isinstance(event, Generated)]
                return made(image)

            return await closed_loop(pictures, concurrency, ask)

    return asyncio.run(run())


def batched_round(
    address: str,
    application: str,
    batching: tuple[str, str],
    pictures: Sequence[Picture],
    concurrency: int,
) -> ServedRound:
    """Asks the request-level batching behind Serve's gRPC proxy, by unary calls.

    Args:
        address: of the proxy.
        application: in Serve.
        batching: metadata that says how calls are gathered.
        pictures: to make.
        concurrency: requests open.
    """
    metadata = (("application", application), batching)

    async def run() -> ServedRound:
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            await channel.channel_ready()
            stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)

            async def ask(picture: Picture) -> Made:
                request = to_request(picture, application)
                method = getattr(stub, f"{RPCS[type(request)]}Unary")
                answer = await method(request, metadata=metadata)
                [image] = answer.images
                stats = image.decoder_stats
                return Made(image.encoded, stats.forwards, stats.shared_forwards, stats.peak_rows)

            return await closed_loop(pictures, concurrency, ask)

    return asyncio.run(run())


async def closed_loop(pictures: Sequence[Picture], concurrency: int, ask: Ask) -> ServedRound:
    """Asks for each picture as soon as fewer than `concurrency` are open."""
    waiting = iter(enumerate(pictures))
    latencies = [0.0] * len(pictures)
    made: dict[int, Made] = {}

    async def worker() -> None:
        for index, picture in waiting:
            begun = time.perf_counter()
            made[index] = await ask(picture)
            latencies[index] = time.perf_counter() - begun

    started = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker())
    seconds = time.perf_counter() - started
    return ServedRound(seconds, tuple(latencies), tuple(made[i] for i in range(len(pictures))))
