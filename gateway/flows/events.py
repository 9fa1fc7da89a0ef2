"""Stage events as events of the public API."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.plan import ImagePlan
from kandinsky.v1.decoder_pb2 import DecodeEvent
from kandinsky.v1.generation_pb2 import GeneratedImage, GenerateEvent
from kandinsky.v1.prior_pb2 import SampleEmbeddingEvent

_SHOWN = frozenset({"queued", "progress", "preview"})


def new_image(image: ImagePlan) -> GeneratedImage:
    """The result of an image, still without its content."""
    return GeneratedImage(index=image.index, seed=image.seed)


def news_of(image: ImagePlan, event: SampleEmbeddingEvent | DecodeEvent) -> Iterator[GenerateEvent]:
    """The event that a caller sees: one, or none where it is the system's own business."""
    kind: str | None = event.WhichOneof("event")
    if kind in _SHOWN:
        news = GenerateEvent(image_index=image.index)
        getattr(news, str(kind)).CopyFrom(getattr(event, str(kind)))
        yield news
