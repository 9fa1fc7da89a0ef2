"""Load on a server: images asked for one a request, so many requests open at any time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.figures import Round
from benchmarks.messages import to_request
from benchmarks.workload import ImageTask
from kandinsky import AsyncClient, Generated
from kandinsky.v1 import generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS


@dataclass(frozen=True)
class Made:
    """A finished image, and what its decoder said."""

    png: bytes
    forwards: int
    shared_forwards: int
    """Those that held rows of other images too."""
    peak_rows: int


@dataclass(frozen=True)
class ServedRound(Round):
    """A round, and what its images say of the decoder."""

    made: tuple[Made, ...]
    """In the order of the images asked for."""

    @property
    def shared_share(self) -> float:
        """Share of the images' decoder forwards that held another image's rows too."""
        shared = sum(one.shared_forwards for one in self.made)
        return shared / sum(one.forwards for one in self.made)

    @property
    def peak_rows(self) -> float:
        """Most rows in one decoder forward, mean over the images."""
        return sum(one.peak_rows for one in self.made) / len(self.made)


def made(image: Generated) -> Made:
    """An image as the client library gives it."""
    stats = image.stats["decoder"]
    return Made(image.encoded or b"", stats.forwards, stats.shared_forwards, stats.peak_rows)


Ask = Callable[[ImageTask], Awaitable[Made]]


def served_round(
    address: str, model: str, tasks: Sequence[ImageTask], concurrency: int
) -> ServedRound:
    """Asks `kandinsky up` through the client library, with its stream of progress."""

    async def run() -> ServedRound:
        async with AsyncClient(address) as client:
            await client.list_models()  # connects

            async def ask(task: ImageTask) -> Made:
                stream = client.stream(to_request(task, model))
                [image] = [event async for event in stream if isinstance(event, Generated)]
                return made(image)

            return await closed_loop(tasks, concurrency, ask)

    return asyncio.run(run())


def batched_round(
    address: str,
    application: str,
    batching: tuple[str, str],
    tasks: Sequence[ImageTask],
    concurrency: int,
) -> ServedRound:
    """Asks the request-level batching behind Serve's gRPC proxy, by unary calls.

    Args:
        address: of the proxy.
        application: in Serve.
        batching: metadata that says how calls are gathered.
        images: to make.
        concurrency: requests open.
    """
    metadata = (("application", application), batching)

    async def run() -> ServedRound:
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            await channel.channel_ready()
            stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)

            async def ask(task: ImageTask) -> Made:
                request = to_request(task, application)
                answer = await stub.GenerateImages(request, metadata=metadata)
                [image] = answer.images
                stats = image.decoder_stats
                return Made(image.encoded, stats.forwards, stats.shared_forwards, stats.peak_rows)

            return await closed_loop(tasks, concurrency, ask)

    return asyncio.run(run())


async def closed_loop(tasks: Sequence[ImageTask], concurrency: int, ask: Ask) -> ServedRound:
    """Asks for each image as soon as fewer than `concurrency` are open."""
    waiting = iter(enumerate(tasks))
    latencies = [0.0] * len(tasks)
    made: dict[int, Made] = {}

    async def worker() -> None:
        for index, task in waiting:
            begun = time.perf_counter()
            made[index] = await ask(task)
            latencies[index] = time.perf_counter() - begun

    started = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker())
    seconds = time.perf_counter() - started
    return ServedRound(seconds, tuple(latencies), tuple(made[i] for i in range(len(tasks))))
