"""PriorService: text embeddings to image embeddings, on the engine."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing

from kandinsky.v1 import prior_pb2
from kandinsky.wire import tensors
from services.engine.batcher import Batcher
from services.engine.events import Event, Finished
from services.engine.phase import Phase
from services.transport.engine_service import EngineService
from services.transport.events import event_fields, stats_message
from services.transport.jobs import sampling_job
from services.transport.rpc import Context, streaming


class PriorFamily(ABC):
    """What a model family gives the prior stage. Requests raise KandinskyError on bad input."""

    hands_over_generator: bool
    """Whether the decoder is to go on with a job's generator."""

    @abstractmethod
    def calibration_phase(self) -> Phase:
        """A guided loop on zeros, to measure the device with.

        It has every conditioning tensor that a request's loop has.
        """

    @abstractmethod
    def phases(self, request: prior_pb2.SampleEmbeddingRequest) -> list[Phase]:
        """What a SampleEmbedding call passes; the last phase's output is `image_embed`."""


class PriorService(EngineService):
    """The RPC methods of PriorService for one model."""

    def __init__(self, family: PriorFamily, batcher: Batcher) -> None:
        super().__init__(batcher)
        self._family = family

    @streaming(prior_pb2.SampleEmbeddingRequest, prior_pb2.SampleEmbeddingEvent)
    async def SampleEmbedding(
        self, request: prior_pb2.SampleEmbeddingRequest, grpc_context: Context
    ) -> AsyncGenerator[prior_pb2.SampleEmbeddingEvent, None]:
        """Samples one image embedding."""
        job = await sampling_job(self._family.phases, request, grpc_context)
        async with aclosing(self._batcher.run(job)) as events:
            async for event in events:
                yield self._to_message(event)

    def _to_message(self, event: Event) -> prior_pb2.SampleEmbeddingEvent:
        if not isinstance(event, Finished):
            return prior_pb2.SampleEmbeddingEvent(**event_fields(event))
        embedding = prior_pb2.SampledEmbedding(
            image_embed=tensors.from_torch(event.outputs["image_embed"][0]),
            stats=stats_message(event.stats),
        )
        if self._family.hands_over_generator:
            embedding.generator_state.CopyFrom(tensors.from_torch(event.generator_state))
        return prior_pb2.SampleEmbeddingEvent(embedding=embedding)
