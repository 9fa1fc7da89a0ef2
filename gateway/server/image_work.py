"""The image work of one request: validating it, decoding its images, encoding files of pixels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gateway.planning.canvases import MadeStart, Start
from gateway.planning.crops import Crop
from gateway.planning.generation_plan import GenerationPlan, ImagePlan
from gateway.requests.input_images import InputImage, encoder_pixels, fitted
from gateway.requests.settings import ImageSize
from gateway.requests.undecoded import Undecoded
from gateway.requests.violations import Violations
from gateway.server.codec_pool import ImageCodecPool, Work
from gateway.server.pixel_quota import PixelQuota
from gateway.server.tenant_quota import Lease
from kandinsky.v1 import decoder_pb2, settings_pb2, tensor_pb2
from kandinsky.v1.encoders_pb2 import EncodeImageRequest
from kandinsky.v1.generation_pb2 import GeneratedImage, GenerateEvent
from kandinsky.wire import images, tensors
from kandinsky.wire.errors import KandinskyError
from kandinsky.wire.tensors import Array

T = TypeVar("T")

_FILES: Mapping[int, images.Format] = {
    settings_pb2.OUTPUT_FORMAT_PNG: "png",
    settings_pb2.OUTPUT_FORMAT_JPEG: "jpeg",
    settings_pb2.OUTPUT_FORMAT_WEBP: "webp",
}


class ImageCodecs(NamedTuple):
    """What the image work of all requests shares."""

    pool: ImageCodecPool
    quota: PixelQuota


class ImageWork:
    """The image work of one request.

    Args:
        codecs: the threads, and the bound on decoded pixels.
        tenant: on whose behalf.
    """

    def __init__(self, codecs: ImageCodecs, tenant: str) -> None:
        self._pool, self._quota = codecs
        self._tenant = tenant
        self._lease: Lease | None = None
        self._kept_pixels = 0
        self._encoder_requests: dict[str, EncodeImageRequest] = {}
        self._starts: dict[Start, MadeStart] = {}
        self._hints: dict[Undecoded[InputImage], tensor_pb2.Tensor] = {}
        self._whole_results = asyncio.Lock()

    async def check(self, planned: Callable[..., GenerationPlan], *args: Any) -> GenerationPlan:
        """Call the function that validates a request and plans it; raises what it raises."""
        return await self._pool.run(Work.CHECK, self._tenant, planned, *args)

    @asynccontextmanager
    async def decoded(self, plan: GenerationPlan) -> AsyncIterator[None]:
        """Decode a plan's images, each a unit of work; the pixels are leased for the block.

        Raises:
            KandinskyError: OVERLOADED where there is no room for so many pixels, INVALID_FIELD
                with every image that cannot be decoded or does not do.
        """
        if not plan.pixels:
            await self._decode(plan)
            yield
            return
        async with self._quota.lease(self._tenant, plan.pixels) as self._lease:
            try:
                await self._decode(plan)
                yield
            finally:
                self._encoder_requests.clear()

    @contextmanager
    def encoder_requests(self) -> Iterator[Mapping[str, EncodeImageRequest]]:
        """What the image encoder reads, by field path; dropped when the block ends."""
        try:
            yield self._encoder_requests
        finally:
            self._encoder_requests.clear()
            self._shrink(self._kept_pixels)

    def start(self, image: ImagePlan) -> MadeStart:
        """Where the denoising of an image starts."""
        return self._starts[image.start]

    def hint(self, image: ImagePlan) -> tensor_pb2.Tensor | None:
        """The control hint of an image, float32 [3, H, W] from 0 to 1."""
        return None if image.hint is None else self._hints[image.hint]

    @asynccontextmanager
    async def finished(
        self,
        result: GeneratedImage,
        decoded: decoder_pb2.DecodedImage,
        plan: GenerationPlan,
        crop: Crop | None = None,
    ) -> AsyncIterator[GenerateEvent]:
        """The event that carries an image, for as long as it takes to hand it over.

        What is laid back into a whole image may be as large as that: the request has one such
        result at a time, and the next is made when this one was handed over.

        Args:
            result: still without its content.
            decoded: what the decoder made.
            plan: of the request.
            crop: the image to lay it back into, if it is a part of one.

        Raises:
            RuntimeError: the decoder sent other pixels than it was asked for.
        """
        async with self._whole_results if crop is not None else nullcontext():
            yield await self._finish(result, decoded, plan, crop)

    async def _decode(self, plan: GenerationPlan) -> None:
        size, encoder_images, hints = plan.size, plan.encoder_images, plan.hints
        # What needs no image is made here and now: it does not wait for the images of others.
        pending = [start for start in plan.starts if start.inputs]
        self._starts = {start: start.make(size) for start in plan.starts if not start.inputs}
        try:
            await self._all(one.decode for one in plan.inputs)
            requests = await self._all(partial(_encoder_request, one) for one in encoder_images)
            made = await self._all(partial(start.make, size) for start in pending)
            made_hints = await self._all(partial(_hint, one, size) for one in hints)
        finally:
            for one in plan.inputs:
                one.drop()
        fields = (one.field for one in encoder_images)
        self._encoder_requests = dict(zip(fields, requests, strict=True))
        self._starts |= zip(pending, made, strict=True)
        self._hints = dict(zip(hints, made_hints, strict=True))
        self._kept_pixels = plan.kept_pixels
        self._shrink(plan.encoder_pixels + plan.kept_pixels)

    def _shrink(self, pixels: int) -> None:
        if self._lease is not None:
            self._lease.shrink(pixels)

    async def _all(self, units: Iterable[Callable[[], T]]) -> list[T]:
        """Run units side by side; what they find wrong with the request is raised together."""
        runs = [self._pool.run(Work.DECODE, self._tenant, unit) for unit in units]
        results: list[T] = []
        violations = Violations()
        for result in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(result, KandinskyError):
                violations.extend(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                results.append(result)
        violations.raise_any()
        return results

    async def _finish(
        self,
        result: GeneratedImage,
        decoded: decoder_pb2.DecodedImage,
        plan: GenerationPlan,
        crop: Crop | None,
    ) -> GenerateEvent:
        result.format = plan.output.format
        result.decoder_stats.CopyFrom(decoded.stats)
        if decoded.HasField("flagged"):
            result.flagged = decoded.flagged
        if plan.output.format in _FILES:
            result.encoded = await self._encode(_file, decoded.tensor, plan, crop)
        elif crop is not None:
            result.tensor.CopyFrom(await self._encode(_laid_back, decoded.tensor, plan, crop))
        else:
            result.tensor.CopyFrom(decoded.tensor)
        return GenerateEvent(image_index=result.index, image=result)

    async def _encode(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._pool.run(Work.ENCODE, self._tenant, function, *args)


def _encoder_request(image: Undecoded[InputImage]) -> EncodeImageRequest:
    return EncodeImageRequest(pixels=tensors.encode(encoder_pixels(image.content)))


def _hint(hint: Undecoded[InputImage], size: ImageSize) -> tensor_pb2.Tensor:
    """float32 [3, H, W] from 0 to 1."""
    pixels = fitted(hint.content, size.height, size.width)
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / 255
    return tensors.encode(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _file(tensor: tensor_pb2.Tensor, plan: GenerationPlan, crop: Crop | None) -> bytes:
    pixels = _pixels(tensor, plan)
    if crop is not None:
        pixels = crop.laid_back(pixels)
    return images.encode(pixels, _FILES[plan.output.format], plan.output.quality)


def _laid_back(tensor: tensor_pb2.Tensor, plan: GenerationPlan, crop: Crop) -> tensor_pb2.Tensor:
    return tensors.encode(crop.laid_back(_pixels(tensor, plan)))


def _pixels(tensor: tensor_pb2.Tensor, plan: GenerationPlan) -> Array:
    is_float = plan.output.format == settings_pb2.OUTPUT_FORMAT_FLOAT_PIXELS
    dtypes = tensors.FLOATS if is_float else tensors.UINT8
    shape = (plan.size.height, plan.size.width, 3)
    try:
        return tensors.decode(tensor, "image", dtypes=dtypes, shape=shape)
    except KandinskyError as error:  # the decoder's fault, not the caller's
        raise RuntimeError(f"the decoder sent a tensor that holds no image: {error}") from error
