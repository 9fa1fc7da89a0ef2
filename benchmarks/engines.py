"""The engines of a running server's stages, and work that keeps them busy."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc.aio

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2_grpc, prior_pb2_grpc
from kandinsky.v1.sampling_pb2 import EngineStats, GetEngineStatsRequest
from kandinsky.wire.channels import OPTIONS

STUBS: dict[Stage, Any] = {
    Stage.PRIOR: prior_pb2_grpc.PriorServiceStub,
    Stage.DECODER: decoder_pb2_grpc.DecoderServiceStub,
}
Stats = Callable[[], Awaitable[EngineStats]]
"""Asks an engine for its counters."""


@asynccontextmanager
async def engines(address: str, entry: CatalogEntry) -> AsyncIterator[dict[Stage, Stats]]:
    """Those of stages with one replica, behind a proxy."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield {
            stage: partial(
                stub(channel).GetEngineStats,
                GetEngineStatsRequest(),
                metadata=(("application", entry.application(stage)),),
            )
            for stage, stub in STUBS.items()
        }


@asynccontextmanager
async def keeping(works: Sequence[Callable[[], Awaitable[object]]]) -> AsyncIterator[None]:
    """Does each work again and again, all side by side, until the block ends."""

    async def keep(work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await work()

    tasks = [asyncio.create_task(keep(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
