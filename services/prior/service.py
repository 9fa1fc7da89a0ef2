"""PriorService: text embeddings to image embeddings, on the engine."""

from collections.abc import AsyncIterator
from typing import Protocol

from kandinsky.v1 import prior_pb2
from kandinsky.wire import tensors
from services import sampling
from services.engine.batcher import Batcher
from services.engine.job import Finished
from services.engine.phase import Phase
from services.rpc import Context, streaming


class PriorFamily(Protocol):
    """What a model family gives the prior stage. Raises KandinskyError on bad input."""

    def phases(self, request: prior_pb2.SampleEmbeddingRequest) -> list[Phase]: ...


class PriorService:
    """The RPC methods of PriorService for one model."""

    def __init__(self, family: PriorFamily, batcher: Batcher) -> None:
        self._family = family
        self._batcher = batcher

    @streaming(prior_pb2.SampleEmbeddingEvent)
    async def SampleEmbedding(
        self, request: prior_pb2.SampleEmbeddingRequest, grpc_context: Context
    ) -> AsyncIterator[prior_pb2.SampleEmbeddingEvent]:
        """Samples one image embedding."""
        sampling.refuse_resume(request)
        phases = self._family.phases(request)
        job = sampling.job(phases, request.sampling, grpc_context)
        async for event in self._batcher.run(job):
            if not isinstance(event, Finished):
                yield prior_pb2.SampleEmbeddingEvent(**sampling.event_fields(event))
                continue
            embedding = prior_pb2.SampledEmbedding(
                image_embed=tensors.from_torch(event.value[0]),
                stats=sampling.stats_message(event.stats),
            )
            yield prior_pb2.SampleEmbeddingEvent(embedding=embedding)
