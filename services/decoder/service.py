"""DecoderService: embeddings and latents to images, on the engine."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from typing import TypeVar

import torch

from kandinsky.v1 import adapters_pb2, decoder_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.adapters.named import refuse
from services.engine.batcher import Batcher
from services.engine.events import Event, Finished, Preview
from services.engine.phase import Phase
from services.transport.engine_service import EngineService
from services.transport.events import event_fields, stats_message
from services.transport.jobs import pass_job, sampling_job
from services.transport.rpc import Context, streaming, unary

R = TypeVar("R")


class DecoderFamily(ABC):
    """What a model family gives the decoder stage. Requests raise KandinskyError on bad input."""

    @abstractmethod
    def calibration_phase(self, height: int, width: int) -> Phase:
        """A guided loop on zeros, for an image of that size in pixels, to measure the device with.

        It has every conditioning tensor that a request's loop has.
        """

    def further_phases(self, height: int, width: int) -> list[Phase]:
        """What else such an image may pass, on zeros: it is compiled before the first request."""
        return []

    def hold_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> ExitStack:
        """Load the adapters that a Decode call names, until the stack closes; may read files.

        What their names stand for is written into the messages, for `phases`.
        """
        refuse(adapters)
        return ExitStack()

    def check_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> int:
        """Load adapters; returns how many layers of the stage's networks they change."""
        refuse(adapters)
        return 0

    @abstractmethod
    def phases(self, request: decoder_pb2.DecodeRequest) -> list[Phase]:
        """What a Decode call passes; the last phase's output is `image` or `latents`."""

    @abstractmethod
    def encode_latents(self, request: decoder_pb2.EncodeLatentsRequest) -> list[Phase]:
        """What an EncodeLatents call passes; the last phase's output is `latents`."""

    @abstractmethod
    def decode_latents(self, request: decoder_pb2.DecodeLatentsRequest) -> list[Phase]:
        """What a DecodeLatents call passes; the last phase's output is `image`."""


class DecoderService(EngineService):
    """The RPC methods of DecoderService for one model."""

    def __init__(self, family: DecoderFamily, batcher: Batcher) -> None:
        super().__init__(batcher)
        self._family = family

    @streaming(decoder_pb2.DecodeRequest, decoder_pb2.DecodeEvent)
    async def Decode(
        self, request: decoder_pb2.DecodeRequest, grpc_context: Context
    ) -> AsyncGenerator[decoder_pb2.DecodeEvent, None]:
        """Samples one image."""
        with await self._adapters(request):
            phases_of = self._family.phases
            job = await sampling_job(phases_of, request, grpc_context, bool(request.adapters))
            async with aclosing(self._batcher.run(job)) as events:
                async for event in events:
                    yield await _to_message(event, request.output)

    @unary(decoder_pb2.EncodeLatentsRequest, decoder_pb2.EncodeLatentsResponse)
    async def EncodeLatents(
        self, request: decoder_pb2.EncodeLatentsRequest, grpc_context: Context
    ) -> decoder_pb2.EncodeLatentsResponse:
        """Pixels to latent."""
        done = await self._pass(self._family.encode_latents, request, grpc_context)
        latents = tensors.from_torch(done.outputs["latents"][0])
        return decoder_pb2.EncodeLatentsResponse(latents=latents)

    @unary(decoder_pb2.DecodeLatentsRequest, decoder_pb2.DecodeLatentsResponse)
    async def DecodeLatents(
        self, request: decoder_pb2.DecodeLatentsRequest, grpc_context: Context
    ) -> decoder_pb2.DecodeLatentsResponse:
        """Latent to pixels."""
        if request.output == decoder_pb2.DECODE_OUTPUT_LATENTS:
            raise invalid("output", "latents are what was sent; ask for pixels")
        done = await self._pass(self._family.decode_latents, request, grpc_context)
        return decoder_pb2.DecodeLatentsResponse(
            pixels=await asyncio.to_thread(_to_pixels, done.outputs["image"], request.output)
        )

    @unary(adapters_pb2.CheckAdaptersRequest, adapters_pb2.CheckAdaptersResponse)
    async def CheckAdapters(
        self, request: adapters_pb2.CheckAdaptersRequest, grpc_context: Context
    ) -> adapters_pb2.CheckAdaptersResponse:
        """Loads adapters."""
        changes = await asyncio.to_thread(self._family.check_adapters, request.adapters)
        return adapters_pb2.CheckAdaptersResponse(changes=changes)

    async def _adapters(self, request: decoder_pb2.DecodeRequest) -> ExitStack:
        if not request.adapters:
            return ExitStack()
        return await asyncio.to_thread(self._family.hold_adapters, request.adapters)

    async def _pass(
        self, phases_of: Callable[[R], Sequence[Phase]], request: R, context: Context
    ) -> Finished:
        async for event in self._batcher.run(pass_job(phases_of, request, context)):
            if isinstance(event, Finished):
                return event
        raise RuntimeError("the engine ended a job without a result")


async def _to_message(event: Event, output: decoder_pb2.DecodeOutput) -> decoder_pb2.DecodeEvent:
    if isinstance(event, Finished):
        image = decoder_pb2.DecodedImage(
            tensor=await asyncio.to_thread(_to_tensor, event, output),
            stats=stats_message(event.stats),
            flagged=_flagged(event),
        )
        return decoder_pb2.DecodeEvent(image=image)
    if isinstance(event, Preview):
        return decoder_pb2.DecodeEvent(**await asyncio.to_thread(event_fields, event))
    return decoder_pb2.DecodeEvent(**event_fields(event))


def _flagged(done: Finished) -> bool | None:
    """A safety checker's verdict; None where none has looked."""
    verdict = done.outputs.get("flagged")
    return None if verdict is None else bool(verdict.item())


def _to_tensor(done: Finished, output: decoder_pb2.DecodeOutput) -> tensor_pb2.Tensor:
    if output == decoder_pb2.DECODE_OUTPUT_LATENTS:
        return tensors.from_torch(done.outputs["latents"][0])
    return _to_pixels(done.outputs["image"], output)


def _to_pixels(image: torch.Tensor, output: decoder_pb2.DecodeOutput) -> tensor_pb2.Tensor:
    """[1, 3, H, W] from 0 to 1 as [H, W, 3], uint8 or float32."""
    pixels = image[0].permute(1, 2, 0).float().cpu()
    if output == decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS:
        return tensors.from_torch(pixels)
    return tensors.from_torch((pixels * 255).round().to(torch.uint8))
