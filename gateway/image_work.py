"""The image work of one request: reading it, and making files of pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.codec_pool import ImageCodecPool, Work
from gateway.crops import Crop
from gateway.plan import Plan
from gateway.settings import Settings
from kandinsky.v1 import decoder_pb2, tensor_pb2
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError
from kandinsky.wire.tensors import Array

_FILES: Mapping[int, images.Format] = {
    generation.OUTPUT_FORMAT_PNG: "png",
    generation.OUTPUT_FORMAT_JPEG: "jpeg",
    generation.OUTPUT_FORMAT_WEBP: "webp",
}


class ImageWork:
    """The image work of one request, on the pool that all requests share.

    Args:
        pool: the threads.
        tenant: on whose behalf.
    """

    def __init__(self, pool: ImageCodecPool, tenant: str) -> None:
        self._pool = pool
        self._tenant = tenant

    async def plan(self, plan_of: Callable[..., Plan], *args: Any) -> Plan:
        """Call the function that reads a request and plans it; raises what it raises."""
        return await self._pool.run(Work.CHECK, self._tenant, plan_of, *args)

    async def finish(
        self,
        result: generation.GeneratedImage,
        decoded: decoder_pb2.DecodedImage,
        settings: Settings,
        crop: Crop | None = None,
    ) -> generation.GenerateEvent:
        """The event that carries an image, with its content and the decoder's stats.

        Args:
            result: still without its content.
            decoded: what the decoder made.
            settings: the request's.
            crop: the picture to lay it back into, if it is a part of one.

        Raises:
            RuntimeError: the decoder sent other pixels than it was asked for.
        """
        result.format = settings.output.format
        result.decoder_stats.CopyFrom(decoded.stats)
        if settings.output.format in _FILES:
            result.encoded = await self._encode(_file, decoded.tensor, settings, crop)
        elif crop is not None:
            result.tensor.CopyFrom(await self._encode(_laid_back, decoded.tensor, settings, crop))
        else:
            result.tensor.CopyFrom(decoded.tensor)
        return generation.GenerateEvent(image_index=result.index, image=result)

    async def _encode(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._pool.run(Work.ENCODE, self._tenant, function, *args)


def _file(tensor: tensor_pb2.Tensor, settings: Settings, crop: Crop | None) -> bytes:
    pixels = _pixels(tensor, settings)
    if crop is not None:
        pixels = crop.laid_back(pixels)
    return images.encode(pixels, _FILES[settings.output.format], settings.output.quality)


def _laid_back(tensor: tensor_pb2.Tensor, settings: Settings, crop: Crop) -> tensor_pb2.Tensor:
    return tensors.encode(crop.laid_back(_pixels(tensor, settings)))


def _pixels(tensor: tensor_pb2.Tensor, settings: Settings) -> Array:
    shape = (settings.height, settings.width, 3)
    dtypes = tensors.UINT8
    if settings.output.format == generation.OUTPUT_FORMAT_FLOAT_PIXELS:
        dtypes = tensors.FLOATS
    try:
        return tensors.decode(tensor, "image", dtypes=dtypes, shape=shape)
    except KandinskyError as error:  # the decoder's fault, not the caller's
        raise RuntimeError(f"the decoder sent a tensor that is no picture: {error}") from error
