"""Runs a plan: encode everything, then for each image prior, decoder, file. The one recipe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from typing import Protocol

from gateway.planning.adapters import decoder_adapters, put_adapters, text_adapters
from gateway.planning.canvases import MadeStart
from gateway.planning.conditioning import Encodings
from gateway.planning.crops import Crop
from gateway.planning.generation_plan import GenerationPlan, ImagePlan
from gateway.planning.stage_request import StageRequest
from gateway.planning.stage_requests import check_widths, decode_request, prior_request
from gateway.stages.merge import merge
from gateway.stages.stages import Stages
from kandinsky.v1 import tensor_pb2
from kandinsky.v1.adapters_pb2 import Adapter
from kandinsky.v1.decoder_pb2 import DecodedImage, DecodeEvent
from kandinsky.v1.encoders_pb2 import EncodeImageRequest
from kandinsky.v1.generation_pb2 import GeneratedImage, GenerateEvent
from kandinsky.v1.prior_pb2 import (
    SampledEmbedding,
    SampleEmbeddingEvent,
    SampleEmbeddingRequest,
)


class PlanImages(Protocol):
    """What the run of a plan needs of the request's own images, decoded before, and of the results.

    `gateway.server.image_work` has it: the images are work of threads that requests share.
    """

    def encoder_requests(self) -> AbstractContextManager[Mapping[str, EncodeImageRequest]]:
        """Of the images that encoders read, by their fields; let go of on leaving."""

    def start(self, image: ImagePlan) -> MadeStart:
        """Where the denoising of an image starts."""

    def hint(self, image: ImagePlan) -> tensor_pb2.Tensor | None:
        """The control hint of an image, float32 [3, H, W] from 0 to 1."""

    def finished(
        self, result: GeneratedImage, decoded: DecodedImage, plan: GenerationPlan, crop: Crop | None
    ) -> AbstractAsyncContextManager[GenerateEvent]:
        """The event that carries an image, for as long as it takes to hand it over."""


_PUBLIC = frozenset({"queued", "progress", "preview"})
"""Events of a stage that the caller gets too."""


async def generate(
    plan: GenerationPlan, stages: Stages, work: PlanImages
) -> AsyncGenerator[GenerateEvent, None]:
    """Yield events of all images as they come; closing it cancels every stage call.

    Args:
        plan: of the request.
        stages: of its model.
        work: has decoded the plan's images.
    """
    with work.encoder_requests() as images:
        texts, adapters = {text.field: text.text for text in plan.texts}, text_adapters(plan)
        answers = await stages.encode(texts, images, adapters)
    check_widths(plan, answers)
    encodings, runs = Encodings(plan, answers), _PriorRuns(stages)
    clip_skip = plan.request.settings.decoder.clip_skip
    if clip_skip is not None and plan.skipped_texts:
        texts = {text.field: text.text for text in plan.skipped_texts}
        encodings.skip(plan, await stages.encode_skipping(texts, clip_skip, adapters))
    own = decoder_adapters(plan, encodings)
    generated = (_image(plan, image, encodings, runs, stages, work, own) for image in plan.images)
    async with aclosing(merge(generated)) as events:
        async for event in events:
            yield event


async def _image(
    plan: GenerationPlan,
    image: ImagePlan,
    encodings: Encodings,
    runs: _PriorRuns,
    stages: Stages,
    work: PlanImages,
    adapters: Sequence[Adapter],
) -> AsyncGenerator[GenerateEvent, None]:
    result = GeneratedImage(index=image.index, seed=image.seed)
    sampled: dict[str, SampledEmbedding] = {}
    requests = {
        run.text.text: prior_request(plan, image, run, encodings) for run in image.prior_runs
    }
    first = next(iter(requests), None)
    async with aclosing(merge(runs.run(*item) for item in requests.items())) as sampling:
        async for text, event in sampling:
            if event.HasField("embedding"):
                sampled[text] = event.embedding
            elif text == first:  # other runs go on beside it, without events
                for public in _public_events(image, event):
                    yield public
    if first is not None:
        result.prior_stats.CopyFrom(sampled[first].stats)
    start, hint = work.start(image), work.hint(image)
    request = decode_request(plan, image, encodings, sampled, start, hint)
    put_adapters(request, plan, adapters)
    async with aclosing(stages.decode(request.message, request.origins)) as decoding:
        async for decoded in decoding:
            if decoded.HasField("image"):
                async with work.finished(result, decoded.image, plan, start.crop) as finished:
                    yield finished
            for public in _public_events(image, decoded):
                yield public


class _PriorRuns:
    """The prior runs of one request; one that several images need is made once."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._made: dict[bytes, asyncio.Future[SampleEmbeddingEvent]] = {}

    async def run(
        self, text: str, request: StageRequest[SampleEmbeddingRequest]
    ) -> AsyncGenerator[tuple[str, SampleEmbeddingEvent], None]:
        """Yield a run's events, each with its text; its result alone where another image has asked
        for it before."""
        key = request.message.SerializeToString(deterministic=True)
        if key in self._made:
            # If that run fails, the request does, and this wait is cancelled with it.
            yield text, await asyncio.shield(self._made[key])
            return
        made = self._made[key] = asyncio.get_running_loop().create_future()
        sampling = self._stages.sample_embedding(request.message, request.origins)
        async with aclosing(sampling) as events:
            async for event in events:
                if event.HasField("embedding"):
                    made.set_result(event)
                yield text, event


def _public_events(
    image: ImagePlan, event: SampleEmbeddingEvent | DecodeEvent
) -> Iterator[GenerateEvent]:
    """The event that a caller gets: one, or none where it is the system's own business."""
    kind: str | None = event.WhichOneof("event")
    if kind in _PUBLIC:
        public = GenerateEvent(image_index=image.index)
        getattr(public, str(kind)).CopyFrom(getattr(event, str(kind)))
        yield public
