"""Pictures in and out, off the event loop: requests are read here, and files made of pixels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gateway.crops import Crop
from gateway.settings import Settings
from kandinsky.v1 import decoder_pb2, tensor_pb2
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError
from kandinsky.wire.tensors import Array

T = TypeVar("T")

_FILES: Mapping[int, images.Format] = {
    generation.OUTPUT_FORMAT_PNG: "png",
    generation.OUTPUT_FORMAT_JPEG: "jpeg",
    generation.OUTPUT_FORMAT_WEBP: "webp",
}


class Pictures:
    """Reads and finishes pictures on a few threads of its own."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pictures")

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
            result.encoded = await self.run(_file, decoded.tensor, settings, crop)
        elif crop is not None:
            result.tensor.CopyFrom(await self.run(_laid_back, decoded.tensor, settings, crop))
        else:
            result.tensor.CopyFrom(decoded.tensor)
        return generation.GenerateEvent(image_index=result.index, image=result)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Calls a function that reads or makes pictures on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def close(self) -> None:
        """Ends the threads; what they are at is finished first."""
        self._threads.shutdown()


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
