"""GenerationService: the public API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from gateway.generation import generate
from gateway.planning.answer_size import check_answer_size
from gateway.planning.generation_plan import GenerationPlan
from gateway.planning.plan import plan
from gateway.requests.validate import validate
from gateway.server.admission import Admitted
from gateway.server.estimates import RequestEstimator
from gateway.server.image_work import ImageCodecs, ImageWork
from gateway.server.model_list import model_message
from gateway.stages.stages import StageAccess
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import models_pb2
from kandinsky.v1.generation_pb2 import GenerateEvent, GenerateRequest, GenerateResponse


class GenerationService:
    """Serves some models: the handlers of an Endpoint.

    Args:
        models: what is served, by name.
        access: how stages are reached.
        codecs: where image files are decoded and encoded.
    """

    def __init__(
        self,
        models: Mapping[str, CatalogEntry],
        access: StageAccess,
        codecs: ImageCodecs,
    ) -> None:
        self._models = models
        self._access = access
        self._codecs = codecs
        self._estimator = RequestEstimator()

    async def Generate(
        self, request: GenerateRequest, admitted: Admitted, *, streams: bool = True
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Yield a request's events, each image with the time that it took; see generation.proto.

        Args:
            request: as sent.
            admitted: its call, and the lease that grows to its images.
            streams: whether each event is a message of its own; else none but images are read.

        Raises:
            KandinskyError: what validation raises; OVERLOADED where there is no room for so many
                images or their pixels, or what waits before them leaves too little time;
                DEADLINE_EXCEEDED where there is too little even without; what a stage raises.
        """
        call, work = admitted.call, ImageWork(self._codecs, admitted.call.tenant)
        planned = await work.check(_planned, request, self._models, streams)
        check_answer_size(planned, streams=streams)
        if request.validate_only:
            admitted.lease.shrink(0)
            yield GenerateEvent(estimate=self._estimator.cost(planned, call))
            return
        self._estimator.check(planned, call)
        admitted.lease.grow(min(len(planned.images), self._access.max_jobs))
        stages = self._access.stages(planned.request.entry, call)
        async with work.decoded(planned):
            self._estimator.check(planned, call)  # again: there may have been no room for pixels
            with self._estimator.watch(planned, call) as note:
                async with aclosing(generate(planned, stages, work)) as events:
                    async for event in events:
                        note(event)
                        if event.HasField("image"):
                            seconds = time.monotonic() - call.arrived
                            event.image.elapsed.FromNanoseconds(round(seconds * 1e9))
                        yield event
        admitted.lease.note_ended()

    async def GenerateImages(
        self, request: GenerateRequest, admitted: Admitted
    ) -> GenerateResponse:
        """Generate, with one answer."""
        response, images = GenerateResponse(), []
        async with aclosing(self.Generate(request, admitted, streams=False)) as events:
            async for event in events:
                if event.HasField("image"):
                    images.append(event.image)
                elif event.HasField("estimate"):
                    response.estimate.CopyFrom(event.estimate)
        response.images.extend(sorted(images, key=lambda image: image.index))
        return response

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, admitted: Admitted
    ) -> models_pb2.ListModelsResponse:
        """List the models served here."""
        models = [model_message(self._models[name]) for name in sorted(self._models)]
        return models_pb2.ListModelsResponse(models=models)


def _planned(
    request: GenerateRequest, models: Mapping[str, CatalogEntry], streams: bool
) -> GenerationPlan:
    valid = validate(request, models)
    return plan(valid if streams else valid.without_events())
