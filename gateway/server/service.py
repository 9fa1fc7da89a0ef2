"""GenerationService: the public API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from gateway.bounds import check_answer_size
from gateway.flows.control import control
from gateway.flows.generate import generate
from gateway.flows.image_to_image import image_to_image
from gateway.flows.inpaint import inpaint
from gateway.flows.mix import interpolate_frames, mix
from gateway.flows.outpaint import outpaint
from gateway.flows.text_guided_edit import text_guided_edit
from gateway.flows.text_to_image import text_to_image
from gateway.flows.variation import variation
from gateway.image_work import ImageCodecs, ImageWork
from gateway.plan import Draft
from gateway.server.admission import Admitted
from gateway.server.estimates import RequestEstimator
from gateway.stages.stages import StageAccess
from kandinsky.catalog.catalog import CatalogEntry, Stage
from kandinsky.v1 import generation_pb2 as generation

Events = AsyncGenerator[generation.GenerateEvent, None]


DraftOf = Callable[[Any, Mapping[str, CatalogEntry]], Draft]
Streaming = Callable[["GenerationService", Any, Admitted], Events]
Unary = Callable[["GenerationService", Any, Admitted], Awaitable[generation.GenerateResponse]]


def _flow(rpc: str, draft_of: DraftOf) -> tuple[Streaming, Unary]:
    """The two RPCs of a flow: a stream of events, and its twin with one answer."""

    async def stream(self: GenerationService, request: Any, admitted: Admitted) -> Events:
        work = ImageWork(self.codecs, admitted.call.tenant)
        draft = await work.check(draft_of, request, self.models)
        check_answer_size(draft, rpc, streams=True)
        async with aclosing(self.generate(draft, admitted, work)) as events:
            async for event in events:
                yield event

    async def unary(
        self: GenerationService, request: Any, admitted: Admitted
    ) -> generation.GenerateResponse:
        work = ImageWork(self.codecs, admitted.call.tenant)
        draft = await work.check(draft_of, request, self.models)
        check_answer_size(draft, rpc, streams=False)
        async with aclosing(self.generate(draft, admitted, work)) as events:
            images = [event.image async for event in events if event.HasField("image")]
        images.sort(key=lambda image: image.index)
        return generation.GenerateResponse(images=images)

    return stream, unary


class GenerationService:
    """Serves the flows of some models: the handlers of an Endpoint.

    Args:
        models: what is served, by name.
        access: how stages are reached.
        codecs: where image files are read and made.
    """

    def __init__(
        self,
        models: Mapping[str, CatalogEntry],
        access: StageAccess,
        codecs: ImageCodecs,
    ) -> None:
        self.models = models
        self.access = access
        self.codecs = codecs
        self.estimator = RequestEstimator()

    TextToImage, TextToImageUnary = _flow("TextToImage", text_to_image)
    Mix, MixUnary = _flow("Mix", mix)
    InterpolateFrames, InterpolateFramesUnary = _flow("InterpolateFrames", interpolate_frames)
    ImageToImage, ImageToImageUnary = _flow("ImageToImage", image_to_image)
    Inpaint, InpaintUnary = _flow("Inpaint", inpaint)
    Outpaint, OutpaintUnary = _flow("Outpaint", outpaint)
    Variation, VariationUnary = _flow("Variation", variation)
    Control, ControlUnary = _flow("Control", control)
    TextGuidedEdit, TextGuidedEditUnary = _flow("TextGuidedEdit", text_guided_edit)

    async def generate(self, draft: Draft, admitted: Admitted, work: ImageWork) -> Events:
        """A draft's events, each image with the time that it took.

        Raises:
            KandinskyError: OVERLOADED where there is no room for so many images or their pixels,
                or what waits before them leaves too little time; DEADLINE_EXCEEDED where there is
                too little even without; INVALID_FIELD where they cannot be decoded.
        """
        call = admitted.call
        self.estimator.check(draft, call)
        admitted.lease.grow(min(draft.count, self.access.max_jobs))
        stages = self.access.stages(draft.entry, call)
        async with work.decoded(draft) as plan:
            self.estimator.check(draft, call)  # once more: there may have been no room for pixels
            with self.estimator.watch(draft, call) as note:
                async with aclosing(generate(plan, stages, work)) as events:
                    async for event in events:
                        note(event)
                        if event.HasField("image"):
                            seconds = time.monotonic() - call.arrived
                            event.image.elapsed.FromNanoseconds(round(seconds * 1e9))
                        yield event
        admitted.lease.note_ended()

    async def ListModels(
        self, request: generation.ListModelsRequest, admitted: Admitted
    ) -> generation.ListModelsResponse:
        """See generation.proto."""
        return generation.ListModelsResponse(
            models=[_model(self.models[name]) for name in sorted(self.models)]
        )


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
