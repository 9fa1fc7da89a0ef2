"""What the engines of a running server's stages say of themselves."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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


class Engine:
    """A stage that has one replica.

    Args:
        channel: to the stages' proxy.
        entry: the model.
        stage: prior or decoder.
    """

    def __init__(self, channel: grpc.aio.Channel, entry: CatalogEntry, stage: Stage) -> None:
        self._stub = STUBS[stage](channel)
        self._metadata: Sequence[tuple[str, str]] = [("application", entry.application(stage))]

    async def stats(self) -> EngineStats:
        """Its counters, now."""
        answer: EngineStats = await self._stub.GetEngineStats(
            GetEngineStatsRequest(), metadata=self._metadata
        )
        return answer


@asynccontextmanager
async def engines(address: str, entry: CatalogEntry) -> AsyncIterator[dict[Stage, Engine]]:
    """Of the stages behind a proxy."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield {stage: Engine(channel, entry, stage) for stage in STUBS}
