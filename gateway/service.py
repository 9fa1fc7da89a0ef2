"""GenerationService: the public API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc.aio

from gateway import validation
from gateway.admission import Admission, Call
from gateway.flows.text_to_image import text_to_image
from gateway.pictures import Pictures
from gateway.stages import Stages
from kandinsky.catalog.catalog import CatalogEntry, Flow, Stage
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceServicer
from kandinsky.wire.errors import KandinskyError, Reason

Context = grpc.aio.ServicerContext[Any, Any]
Events = AsyncGenerator[generation.GenerateEvent, None]


@dataclass(frozen=True)
class StageAccess:
    """How requests reach the stages."""

    channel: grpc.aio.Channel
    max_jobs: int
    """Stage jobs that one request has open at once."""
    attempt_seconds: float
    """How long one attempt of a stage call may stay without an answer."""

    def stages(self, entry: CatalogEntry, call: Call) -> Stages:
        """The stages of a model, on behalf of one request."""
        return Stages(
            self.channel,
            entry,
            request_id=call.request_id,
            deadline=call.deadline,
            max_jobs=self.max_jobs,
            attempt_seconds=self.attempt_seconds,
        )


def _not_yet(flow: Flow, rpc: str) -> Callable[..., Awaitable[None]]:
    async def method(self: GenerationService, request: Any, context: Context) -> None:
        async with self._admission.admit(context, rpc, model=request.model):
            validation.served(request.model, flow, self._models)
            raise KandinskyError(
                Reason.FLOW_UNSUPPORTED,
                f"this release does not have the flow {flow.value}",
                metadata={"flow": flow.value},
            )

    return method


class GenerationService(GenerationServiceServicer):
    """Serves the flows of some models.

    Args:
        models: what is served, by name.
        access: how stages are reached.
        admission: bounds and outcomes of all requests.
        pictures: makes files of pixels.
    """

    def __init__(
        self,
        models: Mapping[str, CatalogEntry],
        access: StageAccess,
        admission: Admission,
        pictures: Pictures,
    ) -> None:
        self._models = models
        self._access = access
        self._admission = admission
        self._pictures = pictures

    async def TextToImage(self, request: generation.TextToImageRequest, context: Context) -> None:
        """See generation.proto."""
        async with self._admission.admit(context, "TextToImage", model=request.model) as call:
            plan = validation.text_to_image(request, self._models)
            stages = self._access.stages(plan.entry, call)
            await _stream(text_to_image(plan, stages, self._pictures), call, context)

    async def TextToImageUnary(
        self, request: generation.TextToImageRequest, context: Context
    ) -> generation.GenerateResponse:
        """See generation.proto."""
        response = generation.GenerateResponse()
        async with self._admission.admit(context, "TextToImageUnary", model=request.model) as call:
            plan = validation.text_to_image(request, self._models)
            validation.check_answer_size(plan, "TextToImage")
            stages = self._access.stages(plan.entry, call)
            await _collect(text_to_image(plan, stages, self._pictures), call, response)
        return response

    Mix = _not_yet(Flow.MIX, "Mix")
    MixUnary = _not_yet(Flow.MIX, "MixUnary")
    ImageToImage = _not_yet(Flow.IMAGE_TO_IMAGE, "ImageToImage")
    ImageToImageUnary = _not_yet(Flow.IMAGE_TO_IMAGE, "ImageToImageUnary")
    Inpaint = _not_yet(Flow.INPAINT, "Inpaint")
    InpaintUnary = _not_yet(Flow.INPAINT, "InpaintUnary")
    Outpaint = _not_yet(Flow.OUTPAINT, "Outpaint")
    OutpaintUnary = _not_yet(Flow.OUTPAINT, "OutpaintUnary")
    Variation = _not_yet(Flow.VARIATION, "Variation")
    VariationUnary = _not_yet(Flow.VARIATION, "VariationUnary")

    async def ListModels(
        self, request: generation.ListModelsRequest, context: Context
    ) -> generation.ListModelsResponse:
        """See generation.proto."""
        response = generation.ListModelsResponse()
        async with self._admission.admit(context, "ListModels"):
            response.models.extend(_model(self._models[name]) for name in sorted(self._models))
        return response


async def _stream(flow: Events, call: Call, context: Context) -> None:
    async with aclosing(flow) as events:
        async for event in events:
            await context.write(_timed(event, call))


async def _collect(flow: Events, call: Call, response: generation.GenerateResponse) -> None:
    async with aclosing(flow) as events:
        images = [_timed(event, call).image async for event in events if event.HasField("image")]
    response.images.extend(sorted(images, key=lambda image: image.index))


def _timed(event: generation.GenerateEvent, call: Call) -> generation.GenerateEvent:
    if event.HasField("image"):
        event.image.elapsed.FromNanoseconds(round((time.monotonic() - call.arrived) * 1e9))
    return event


def _model(entry: CatalogEntry) -> generation.Model:
    defaults, limits = entry.defaults, entry.limits
    has_prior = Stage.PRIOR in entry.stages
    return generation.Model(
        name=entry.name,
        description=entry.description,
        family=entry.family,
        flows=[f"FLOW_{flow.name}" for flow in entry.flows],
        defaults=generation.ModelDefaults(
            height=defaults.height,
            width=defaults.width,
            steps=defaults.steps,
            guidance_scale=defaults.guidance_scale,
            prior_steps=defaults.prior_steps if has_prior else 0,
            prior_guidance_scale=defaults.prior_guidance_scale if has_prior else 0,
        ),
        limits=generation.ModelLimits(**limits.model_dump()),
    )
