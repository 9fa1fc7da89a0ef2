"""Load: images asked for one a request, so many requests open at any time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import grpc

from benchmarks.figures import Round
from benchmarks.workload import ImageTask, to_request
from kandinsky.v1 import generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS


@dataclass(frozen=True)
class Made:
    """A finished image."""

    png: bytes
    peak_rows: int | None = None
    """Most rows in one of its decoder forwards."""


Ask = Callable[[ImageTask], Awaitable[Made]]


async def window(ask: Ask, tasks: Sequence[ImageTask], open_: int, seconds: float) -> Round:
    """Keeps so many requests open for a window, which begins once as many images have come.

    What is open at the window's end goes on to its own end; nothing is asked for after it.
    """
    waiting, spans, rows = cycle(tasks), list[tuple[float, float]](), list[int | None]()
    opens: float | None = None

    async def worker() -> None:
        nonlocal opens
        while opens is None or time.perf_counter() < opens + seconds:
            begun = time.perf_counter()
            made = await ask(next(waiting))
            end = time.perf_counter()
            spans.append((begun, end))
            rows.append(made.peak_rows)
            if opens is None and len(spans) >= open_:
                opens = end

    async with asyncio.TaskGroup() as workers:
        for _ in range(open_):
            workers.create_task(worker())
    if opens is None:
        raise RuntimeError("a window without an image")
    counted = [one for one in rows if one is not None]
    mean = sum(counted) / len(counted) if counted else None
    return Round(seconds, tuple((begun - opens, end - opens) for begun, end in spans), mean)


@asynccontextmanager
async def asked(
    address: str, model: str, metadata: Sequence[tuple[str, str]] = (), **more: Any
) -> AsyncIterator[Ask]:
    """Asks a GenerationService for one answer a request: this system's, or another's.

    Args:
        address: of its server.
        model: that each request names.
        metadata: of each call.
        more: of each request, beside what its task says.
    """
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        await channel.channel_ready()
        stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)

        async def ask(task: ImageTask) -> Made:
            request = to_request(task, model, **more)
            [image] = (await stub.GenerateImages(request, metadata=metadata)).images
            return Made(image.encoded, image.decoder_stats.peak_rows)

        yield ask
