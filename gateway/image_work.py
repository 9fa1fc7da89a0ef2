"""The image work of one request: checking it, decoding its images, making files of pixels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar

from gateway.crops import Crop
from gateway.faults import Faults
from gateway.inputs import Picture, shown
from gateway.plan import Draft, Plan
from gateway.server.codec_pool import ImageCodecPool, Work
from gateway.server.pixel_budget import PixelBudget, PixelLease
from gateway.settings import Settings
from gateway.undecoded import Undecoded
from kandinsky.v1 import decoder_pb2, tensor_pb2
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.encoders_pb2 import EncodeImageRequest
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError
from kandinsky.wire.tensors import Array

T = TypeVar("T")

_FILES: Mapping[int, images.Format] = {
    generation.OUTPUT_FORMAT_PNG: "png",
    generation.OUTPUT_FORMAT_JPEG: "jpeg",
    generation.OUTPUT_FORMAT_WEBP: "webp",
}


class ImageCodecs(NamedTuple):
    """What the image work of all requests shares."""

    pool: ImageCodecPool
    budget: PixelBudget


class ImageWork:
    """The image work of one request.

    Args:
        codecs: the threads, and the bound on decoded pixels.
        tenant: on whose behalf.
    """

    def __init__(self, codecs: ImageCodecs, tenant: str) -> None:
        self._pool, self._budget = codecs
        self._tenant = tenant
        self._lease = PixelLease(self._budget, tenant, 0)
        self._kept_pixels = 0
        self._shown: dict[str, EncodeImageRequest] = {}
        self._whole_results = asyncio.Lock()

    async def check(self, draft_of: Callable[..., Draft], *args: Any) -> Draft:
        """Call the function that checks a request and drafts its plan; raises what it raises."""
        return await self._pool.run(Work.CHECK, self._tenant, draft_of, *args)

    @asynccontextmanager
    async def decoded(self, draft: Draft) -> AsyncIterator[Plan]:
        """Decode a draft's images, each a unit of work; the pixels are leased for the block.

        Raises:
            KandinskyError: OVERLOADED where there is no room for so many pixels, INVALID_FIELD
                with every image that cannot be decoded or does not do.
        """
        if not draft.pixels:
            yield await self._plan(draft)
            return
        async with self._budget.lease(self._tenant, draft.pixels) as self._lease:
            try:
                yield await self._plan(draft)
            finally:
                self._shown.clear()

    @contextmanager
    def shown(self) -> Iterator[Mapping[str, EncodeImageRequest]]:
        """What the image encoder is to see, by field path; dropped when the block ends."""
        try:
            yield self._shown
        finally:
            self._shown.clear()
            self._lease.shrink(self._kept_pixels)

    @asynccontextmanager
    async def finished(
        self,
        result: generation.GeneratedImage,
        decoded: decoder_pb2.DecodedImage,
        settings: Settings,
        crop: Crop | None = None,
    ) -> AsyncIterator[generation.GenerateEvent]:
        """The event that carries an image, for as long as it takes to hand it over.

        What is laid back into a whole picture may be as large as that: the request has one such
        result at a time, and the next is made when this one was handed over.

        Args:
            result: still without its content.
            decoded: what the decoder made.
            settings: the request's.
            crop: the picture to lay it back into, if it is a part of one.

        Raises:
            RuntimeError: the decoder sent other pixels than it was asked for.
        """
        async with self._whole_results if crop is not None else nullcontext():
            yield await self._finish(result, decoded, settings, crop)

    async def _plan(self, draft: Draft) -> Plan:
        try:
            await self._all(one.decode for one in draft.inputs)
            shown = await self._all(partial(_see, one) for one in draft.shown.values())
            made = iter(await self._all(start.make for start in draft.starts if start.inputs))
        finally:
            for one in draft.inputs:
                one.drop()
        # What needs no image is made here and now: it does not wait for the images of others.
        starts = [next(made) if start.inputs else start.make() for start in draft.starts]
        self._shown = dict(zip(draft.shown, shown, strict=True))
        self._kept_pixels = draft.kept_pixels
        self._lease.shrink(draft.shown_pixels + draft.kept_pixels)
        return Plan(draft.entry, draft.settings, draft.texts, draft.images(starts))

    async def _all(self, units: Iterable[Callable[[], T]]) -> list[T]:
        """Run units side by side; what they find wrong with the request is raised together."""
        runs = [self._pool.run(Work.DECODE, self._tenant, unit) for unit in units]
        results: list[T] = []
        faults = Faults()
        for result in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(result, KandinskyError):
                faults.extend(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                results.append(result)
        faults.raise_any()
        return results

    async def _finish(
        self,
        result: generation.GeneratedImage,
        decoded: decoder_pb2.DecodedImage,
        settings: Settings,
        crop: Crop | None,
    ) -> generation.GenerateEvent:
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


def _see(picture: Undecoded[Picture]) -> EncodeImageRequest:
    return EncodeImageRequest(pixels=tensors.encode(shown(picture.content)))


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
