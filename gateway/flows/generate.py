"""The recipe of every flow: encode everything, then for each image prior, decoder, file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.flows.events import new_image, news_of
from gateway.flows.merge import merge
from gateway.flows.stage_requests import (
    check_widths,
    decode_request,
    decoder_fields,
    prior_fields,
    prior_requests,
)
from gateway.image_work import ImageWork
from gateway.plan import ImagePlan, Plan, Source
from gateway.stages.stages import Encoded, Stages
from kandinsky.v1.generation_pb2 import GenerateEvent
from kandinsky.v1.prior_pb2 import (
    SampledEmbedding,
    SampleEmbeddingEvent,
    SampleEmbeddingRequest,
)


async def generate(
    plan: Plan, stages: Stages, work: ImageWork
) -> AsyncGenerator[GenerateEvent, None]:
    """Events of all images as they come; closing it cancels every stage call."""
    with work.shown() as shown:
        encoded = await stages.encode(plan.texts, shown)
    check_widths(plan, encoded)
    runs = _PriorRuns(stages)
    images = (_image(plan, image, encoded, runs, stages, work) for image in plan.images)
    async with aclosing(merge(images)) as events:
        async for event in events:
            yield event


async def _image(
    plan: Plan,
    image: ImagePlan,
    encoded: Encoded,
    runs: _PriorRuns,
    stages: Stages,
    work: ImageWork,
) -> AsyncGenerator[GenerateEvent, None]:
    result, sampled = new_image(image), dict[Source, SampledEmbedding]()
    requests = prior_requests(plan, image, encoded)
    async with aclosing(merge(runs.run(*item) for item in requests.items())) as sampling:
        async for source, event in sampling:
            if event.HasField("embedding"):
                sampled[source] = event.embedding
            elif source is next(iter(requests)):  # other runs go beside it, unannounced
                for news in news_of(image, event):
                    yield news
    if sampled and image.guide.terms:
        first = next(iter(requests))
        result.prior_stats.CopyFrom(sampled[first].stats)
    request = decode_request(plan, image, encoded, sampled)
    async with aclosing(stages.decode(request, decoder_fields(image))) as decoding:
        async for decoded in decoding:
            if decoded.HasField("image"):
                made, crop = decoded.image, image.start.crop
                async with work.finished(result, made, plan.settings, crop) as finished:
                    yield finished
            for news in news_of(image, decoded):
                yield news


class _PriorRuns:
    """The prior runs of one request; one that several images need is made once."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._made: dict[bytes, asyncio.Future[SampleEmbeddingEvent]] = {}

    async def run(
        self, source: Source, request: SampleEmbeddingRequest
    ) -> AsyncGenerator[tuple[Source, SampleEmbeddingEvent], None]:
        """Events of a run; its result alone where another image has asked for it before."""
        key = request.SerializeToString(deterministic=True)
        if key in self._made:
            # If that run fails, the request does, and this wait is cancelled with it.
            yield source, await asyncio.shield(self._made[key])
            return
        made = self._made[key] = asyncio.get_running_loop().create_future()
        async with aclosing(self._stages.sample_embedding(request, prior_fields(source))) as events:
            async for event in events:
                if event.HasField("embedding"):
                    made.set_result(event)
                yield source, event
