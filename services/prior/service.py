"""PriorService: text embeddings to image embeddings, on the engine."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

from kandinsky.v1 import prior_pb2, sampling_pb2
from kandinsky.wire import tensors
from services.engine.batcher import Batcher
from services.engine.job import Event, Finished
from services.engine.phase import Phase
from services.transport import sampling
from services.transport.engine_stats import engine_stats
from services.transport.rpc import Context, streaming, unary


class PriorFamily(Protocol):
    """What a model family gives the prior stage. Raises KandinskyError on bad input."""

    def calibration_phase(self) -> Phase: ...
    def phases(self, request: prior_pb2.SampleEmbeddingRequest) -> list[Phase]: ...


class PriorService:
    """The RPC methods of PriorService for one model."""

    def __init__(self, family: PriorFamily, batcher: Batcher) -> None:
        self._family = family
        self._batcher = batcher

    @streaming(prior_pb2.SampleEmbeddingRequest, prior_pb2.SampleEmbeddingEvent)
    async def SampleEmbedding(
        self, request: prior_pb2.SampleEmbeddingRequest, grpc_context: Context
    ) -> AsyncIterator[prior_pb2.SampleEmbeddingEvent]:
        """Samples one image embedding."""
        job = await sampling.job(self._family.phases(request), request, grpc_context)
        async with aclosing(self._batcher.run(job)) as events:
            async for event in events:
                yield _to_message(event)

    @unary(sampling_pb2.GetEngineStatsRequest, sampling_pb2.EngineStats)
    async def GetEngineStats(
        self, request: sampling_pb2.GetEngineStatsRequest, grpc_context: Context
    ) -> sampling_pb2.EngineStats:
        """What the engine has been doing."""
        return engine_stats(self._batcher)


def _to_message(event: Event) -> prior_pb2.SampleEmbeddingEvent:
    if not isinstance(event, Finished):
        return prior_pb2.SampleEmbeddingEvent(**sampling.event_fields(event))
    embedding = prior_pb2.SampledEmbedding(
        image_embed=tensors.from_torch(event.value[0]),
        stats=sampling.stats_message(event.stats),
    )
    return prior_pb2.SampleEmbeddingEvent(embedding=embedding)
