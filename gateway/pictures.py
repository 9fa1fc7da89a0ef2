"""Decoded pixels in the form that the caller asked for; files are made off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from gateway.settings import Settings
from kandinsky.v1 import decoder_pb2, tensor_pb2
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError

_FILES: Mapping[int, images.Format] = {
    generation.OUTPUT_FORMAT_PNG: "png",
    generation.OUTPUT_FORMAT_JPEG: "jpeg",
    generation.OUTPUT_FORMAT_WEBP: "webp",
}


class Pictures:
    """Finishes images on a few threads of its own."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pictures")

    async def finish(
        self,
        result: generation.GeneratedImage,
        decoded: decoder_pb2.DecodedImage,
        settings: Settings,
    ) -> generation.GenerateEvent:
        """The event that carries an image, with its content and the decoder's stats.

        Raises:
            RuntimeError: the decoder sent other pixels than it was asked for.
        """
        result.format = settings.output.format
        result.decoder_stats.CopyFrom(decoded.stats)
        if settings.output.format in _FILES:
            loop = asyncio.get_running_loop()
            result.encoded = await loop.run_in_executor(
                self._threads, _file, decoded.tensor, settings
            )
        else:
            result.tensor.CopyFrom(decoded.tensor)
        return generation.GenerateEvent(image_index=result.index, image=result)

    def close(self) -> None:
        """Ends the threads; what they are at is finished first."""
        self._threads.shutdown()


def _file(tensor: tensor_pb2.Tensor, settings: Settings) -> bytes:
    shape = (settings.height, settings.width, 3)
    try:
        pixels = tensors.decode(tensor, "image", dtypes=tensors.UINT8, shape=shape)
    except KandinskyError as error:  # the decoder's fault, not the caller's
        raise RuntimeError(f"the decoder sent a tensor that is no picture: {error}") from error
    return images.encode(pixels, _FILES[settings.output.format], settings.output.quality)
