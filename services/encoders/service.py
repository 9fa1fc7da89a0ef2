"""EncoderService: texts and pictures to embeddings."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from cachetools import LRUCache

from kandinsky.v1 import encoders_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.rpc import Context, unary

MAX_TEXTS = 256
CACHED_TEXTS = 4096


class EncodersFamily(Protocol):
    """What a model family gives the encoder stage."""

    zero_image_embed: tensor_pb2.Tensor | None

    def check_text(self, text: str, field: str) -> None: ...
    def encode_texts(self, texts: Sequence[str]) -> list[encoders_pb2.TextEncoding]: ...
    def encode_images(
        self, pictures: Sequence[np.ndarray]
    ) -> list[encoders_pb2.EncodeImageResponse]: ...


class EncoderService:
    """The RPC methods of EncoderService for one model.

    A text seen lately is not encoded again. One thread owns the device and the tokenizers, which
    keep the padding of the call under way as their own state.
    """

    def __init__(self, family: EncodersFamily) -> None:
        self._family = family
        self._cache: LRUCache[str, encoders_pb2.TextEncoding] = LRUCache(CACHED_TEXTS)
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")

    @unary(encoders_pb2.EncodeTextResponse)
    async def EncodeText(
        self, request: encoders_pb2.EncodeTextRequest, grpc_context: Context
    ) -> encoders_pb2.EncodeTextResponse:
        """Encodes texts."""
        if not 1 <= len(request.texts) <= MAX_TEXTS:
            raise invalid("texts", f"must hold 1 to {MAX_TEXTS} texts")
        found = {text: self._cache.get(text) for text in request.texts}
        unseen = [text for text, encoding in found.items() if encoding is None]
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

    @unary(encoders_pb2.EncodeImageResponse)
    async def EncodeImage(
        self, request: encoders_pb2.EncodeImageRequest, grpc_context: Context
    ) -> encoders_pb2.EncodeImageResponse:
        """Encodes a picture."""
        picture = tensors.decode(
            request.pixels, "pixels", dtypes=tensors.UINT8, shape=[None, None, 3]
        )
        if not picture.size:
            raise invalid("pixels.shape", "has no pixels")
        return await self.encode_image(picture)

    async def encode_text(self, text: str) -> encoders_pb2.TextEncoding:
        """Encodes one text; a deployment may batch the calls that come together."""
        return (await self._encode_texts([text]))[0]

    async def encode_image(self, picture: np.ndarray) -> encoders_pb2.EncodeImageResponse:
        """Encodes one picture, uint8 [H, W, 3]; a deployment may batch as above."""
        return (await self._encode_images([picture]))[0]

    async def _encode_texts(self, texts: list[str]) -> list[encoders_pb2.TextEncoding]:
        return await self._on_device(self._family.encode_texts, texts)

    async def _encode_images(
        self, pictures: list[np.ndarray]
    ) -> list[encoders_pb2.EncodeImageResponse]:
        return await self._on_device(self._family.encode_images, pictures)

    def _on_device(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._device, function, *args)
