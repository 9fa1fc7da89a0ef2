"""EncoderService: texts and images to embeddings."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from cachetools import LRUCache

from kandinsky.v1 import adapters_pb2, encoders_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from services.transport.rpc import Context, deadline, unary

MAX_TEXTS = 256
CACHED_TEXTS = 4096
LEAST_RETRY = 0.1
"""Seconds after which a caller who found the queue full may come back at the earliest."""


class EncodersFamily(ABC):
    """What a model family gives the encoder stage."""

    zero_image_embed: tensor_pb2.Tensor | None
    """[D]: the image encoder's output for a zero tensor; None for families without one."""

    @abstractmethod
    def check_text(self, text: str, field: str) -> None:
        """Refuse a text that an encoder would have to cut.

        Raises:
            KandinskyError: INVALID_FIELD naming `field`.
        """

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> list[encoders_pb2.TextEncoding]:
        """Encode texts in one batch."""

    def encode_texts_changed(
        self, texts: Sequence[str], clip_skip: int | None, adapters: Sequence[adapters_pb2.Adapter]
    ) -> list[encoders_pb2.TextEncoding]:
        """Encode texts in one batch by a changed text encoder.

        Args:
            texts: any.
            clip_skip: last layers that are left out, at least 1; None for none.
            adapters: that change it; their files may be read.

        Raises:
            KandinskyError: INVALID_FIELD for a family that leaves out no layers, or not so many,
                or has no adapters; for an adapter that cannot be used; for a text that would
                have to be cut.
        """
        if clip_skip is not None:
            raise invalid("clip_skip", "this model takes none")
        raise invalid("adapters", "this model takes none")

    @abstractmethod
    def check_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> int:
        """Load adapters; returns how many layers of the stage's networks they change, and how many
        embeddings they add."""

    @abstractmethod
    def encode_images(self, images: Sequence[np.ndarray]) -> list[encoders_pb2.EncodeImageResponse]:
        """Encode images, each uint8 [H, W, 3], in one batch.

        Raises:
            KandinskyError: FLOW_UNSUPPORTED for a family without an image encoder.
        """


class EncoderService:
    """The RPC methods of EncoderService for one model.

    A text seen lately is not encoded again. One thread owns the device and the tokenizers, which
    keep the padding of the call under way as their own state.

    Args:
        family: encodes.
        max_queue: calls at work or waiting; one more is refused.
    """

    def __init__(self, family: EncodersFamily, max_queue: int) -> None:
        self._family = family
        self._max_queue = max_queue
        self._calls = 0
        self._seconds = 0.0
        """Of a call, lately."""
        self._cache: LRUCache[str, encoders_pb2.TextEncoding] = LRUCache(CACHED_TEXTS)
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")

    @unary(encoders_pb2.EncodeTextRequest, encoders_pb2.EncodeTextResponse)
    async def EncodeText(
        self, request: encoders_pb2.EncodeTextRequest, grpc_context: Context
    ) -> encoders_pb2.EncodeTextResponse:
        """Encodes texts."""
        with self._slot(grpc_context):
            return await self._encode_all(request)

    async def _encode_all(
        self, request: encoders_pb2.EncodeTextRequest
    ) -> encoders_pb2.EncodeTextResponse:
        if not 1 <= len(request.texts) <= MAX_TEXTS:
            raise invalid("texts", f"must hold 1 to {MAX_TEXTS} texts")
        if request.HasField("clip_skip") or request.adapters:  # rare: neither kept nor batched
            clip_skip = request.clip_skip if request.HasField("clip_skip") else None
            changed = self._family.encode_texts_changed
            encoded = await self._on_device(
                changed, list(request.texts), clip_skip, list(request.adapters)
            )
            return encoders_pb2.EncodeTextResponse(encodings=encoded)
        texts = dict.fromkeys(request.texts)
        found = {text: self._cache[text] for text in texts if text in self._cache}
        unseen = [text for text in texts if text not in found]
        for text in unseen:
            field = f"texts[{list(request.texts).index(text)}]"
            await self._on_device(self._family.check_text, text, field)
        encodings = await asyncio.gather(*(self.encode_text(text) for text in unseen))
        found.update(zip(unseen, encodings, strict=True))
        self._cache.update(zip(unseen, encodings, strict=True))
        return encoders_pb2.EncodeTextResponse(
            encodings=[found[text] for text in request.texts],
            zero_image_embed=self._family.zero_image_embed,
        )

    @unary(encoders_pb2.EncodeImageRequest, encoders_pb2.EncodeImageResponse)
    async def EncodeImage(
        self, request: encoders_pb2.EncodeImageRequest, grpc_context: Context
    ) -> encoders_pb2.EncodeImageResponse:
        """Encodes an image."""
        image = tensors.decode(
            request.pixels, "pixels", dtypes=tensors.UINT8, shape=[None, None, 3]
        )
        if not image.size:
            raise invalid("pixels.shape", "has no pixels")
        with self._slot(grpc_context):
            return await self.encode_image(image)

    @unary(adapters_pb2.CheckAdaptersRequest, adapters_pb2.CheckAdaptersResponse)
    async def CheckAdapters(
        self, request: adapters_pb2.CheckAdaptersRequest, grpc_context: Context
    ) -> adapters_pb2.CheckAdaptersResponse:
        """Loads adapters."""
        changes = await self._on_device(self._family.check_adapters, request.adapters)
        return adapters_pb2.CheckAdaptersResponse(changes=changes)

    async def encode_text(self, text: str) -> encoders_pb2.TextEncoding:
        """Encodes one text; a deployment may batch the calls that come together."""
        return (await self._encode_texts([text]))[0]

    async def encode_image(self, image: np.ndarray) -> encoders_pb2.EncodeImageResponse:
        """Encodes one image, uint8 [H, W, 3]; a deployment may batch as above."""
        return (await self._encode_images([image]))[0]

    @contextmanager
    def _slot(self, context: Context) -> Iterator[None]:
        """Count a call as at work; refuse it if the queue is full or its deadline has passed."""
        limit, begun = deadline(context), time.monotonic()
        if begun >= limit:
            raise KandinskyError(Reason.DEADLINE_EXCEEDED, "the deadline has passed")
        if self._calls >= self._max_queue:
            wait = max(LEAST_RETRY, self._seconds / 2)
            raise KandinskyError(
                Reason.OVERLOADED, f"{self._calls} calls wait already", retry_after=wait
            )
        self._calls += 1
        try:
            yield
            self._seconds = time.monotonic() - begun
        finally:
            self._calls -= 1

    async def _encode_texts(self, texts: list[str]) -> list[encoders_pb2.TextEncoding]:
        encodings: list[encoders_pb2.TextEncoding] = await self._on_device(
            self._family.encode_texts, texts
        )
        return encodings

    async def _encode_images(
        self, images: list[np.ndarray]
    ) -> list[encoders_pb2.EncodeImageResponse]:
        embeds: list[encoders_pb2.EncodeImageResponse] = await self._on_device(
            self._family.encode_images, images
        )
        return embeds

    def _on_device(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._device, function, *args)
