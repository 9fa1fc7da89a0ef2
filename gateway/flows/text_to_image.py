"""Text to image: encode every text at once, then for each image prior, decoder, file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.flows.events import new_image, news_of
from gateway.flows.merge import merge
from gateway.flows.stage_requests import (
    DECODER_FIELDS,
    PRIOR_FIELDS,
    decode_request,
    prior_requests,
    take_embedding,
)
from gateway.pictures import Pictures
from gateway.plan import ImagePlan, TextToImagePlan
from gateway.stages import EncodedTexts, Stages
from kandinsky.v1.generation_pb2 import GenerateEvent
from kandinsky.v1.prior_pb2 import SampleEmbeddingEvent, SampleEmbeddingRequest


async def text_to_image(
    plan: TextToImagePlan, stages: Stages, pictures: Pictures
) -> AsyncGenerator[GenerateEvent, None]:
    """Events of all images as they come; closing it cancels every stage call."""
    texts = await stages.encode_text(plan.texts) if plan.texts else EncodedTexts({})
    images = (_image(plan, image, texts, stages, pictures) for image in plan.images)
    async with aclosing(merge(images)) as events:
        async for event in events:
            yield event


async def _image(
    plan: TextToImagePlan, image: ImagePlan, texts: EncodedTexts, stages: Stages, pictures: Pictures
) -> AsyncGenerator[GenerateEvent, None]:
    request, result = decode_request(plan, image, texts), new_image(image)
    runs = prior_requests(plan, image, texts)
    async with aclosing(merge(_run(stages, *run) for run in runs.items())) as sampling:
        async for field, sampled in sampling:
            if sampled.HasField("embedding"):
                take_embedding(request, result, field, sampled.embedding)
            elif field == "image_embed":  # the negative's run goes beside it, unannounced
                for news in news_of(image, sampled):
                    yield news
    async with aclosing(stages.decode(request, DECODER_FIELDS)) as decoding:
        async for decoded in decoding:
            if decoded.HasField("image"):
                yield await pictures.finish(result, decoded.image, plan.settings)
            for news in news_of(image, decoded):
                yield news


async def _run(
    stages: Stages, field: str, request: SampleEmbeddingRequest
) -> AsyncGenerator[tuple[str, SampleEmbeddingEvent], None]:
    async with aclosing(stages.sample_embedding(request, PRIOR_FIELDS)) as events:
        async for event in events:
            yield field, event
