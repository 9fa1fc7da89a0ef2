"""DecoderService: embeddings and latents to pictures, on the engine."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import Protocol

import torch

from kandinsky.catalog.catalog import Flow
from kandinsky.v1 import decoder_pb2, sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.engine.batcher import Batcher
from services.engine.job import Event, Finished, Job, Preview
from services.engine.phase import Phase
from services.transport import sampling
from services.transport.engine_stats import engine_stats
from services.transport.rpc import Context, deadline, priority, request_id, streaming, tenant, unary


class DecoderFamily(Protocol):
    """What a model family gives the decoder stage. Each raises KandinskyError on bad input."""

    def check_flows(self, flows: Collection[Flow]) -> None: ...
    def calibration_phase(self, height: int, width: int) -> Phase: ...
    def phases(self, request: decoder_pb2.DecodeRequest) -> list[Phase]: ...
    def encode_latents(self, request: decoder_pb2.EncodeLatentsRequest) -> list[Phase]: ...
    def decode_latents(self, request: decoder_pb2.DecodeLatentsRequest) -> list[Phase]: ...


class DecoderService:
    """The RPC methods of DecoderService for one model."""

    def __init__(self, family: DecoderFamily, batcher: Batcher) -> None:
        self._family = family
        self._batcher = batcher

    @streaming(decoder_pb2.DecodeRequest, decoder_pb2.DecodeEvent)
    async def Decode(
        self, request: decoder_pb2.DecodeRequest, grpc_context: Context
    ) -> AsyncIterator[decoder_pb2.DecodeEvent]:
        """Samples one picture."""
        job = await sampling.job(self._family.phases(request), request, grpc_context)
        async with aclosing(self._batcher.run(job)) as events:
            async for event in events:
                yield await _to_message(event, request.output)

    @unary(sampling_pb2.GetEngineStatsRequest, sampling_pb2.EngineStats)
    async def GetEngineStats(
        self, request: sampling_pb2.GetEngineStatsRequest, grpc_context: Context
    ) -> sampling_pb2.EngineStats:
        """What the engine has been doing."""
        return engine_stats(self._batcher)

    @unary(decoder_pb2.EncodeLatentsRequest, decoder_pb2.EncodeLatentsResponse)
    async def EncodeLatents(
        self, request: decoder_pb2.EncodeLatentsRequest, grpc_context: Context
    ) -> decoder_pb2.EncodeLatentsResponse:
        """Pixels to latent."""
        latents = await self._pass(self._family.encode_latents(request), grpc_context)
        return decoder_pb2.EncodeLatentsResponse(latents=tensors.from_torch(latents[0]))

    @unary(decoder_pb2.DecodeLatentsRequest, decoder_pb2.DecodeLatentsResponse)
    async def DecodeLatents(
        self, request: decoder_pb2.DecodeLatentsRequest, grpc_context: Context
    ) -> decoder_pb2.DecodeLatentsResponse:
        """Latent to pixels."""
        if request.output == decoder_pb2.DECODE_OUTPUT_LATENTS:
            raise invalid("output", "latents are what was sent; ask for pixels")
        picture = await self._pass(self._family.decode_latents(request), grpc_context)
        return decoder_pb2.DecodeLatentsResponse(
            pixels=await asyncio.to_thread(_to_tensor, picture, request.output)
        )

    async def _pass(self, phases: list[Phase], context: Context) -> torch.Tensor:
        job = Job(
            request_id(context),
            phases,
            torch.Generator("cpu"),
            deadline(context),
            tenant(context),
            priority(context),
        )
        async for event in self._batcher.run(job):
            if isinstance(event, Finished):
                return event.value
        raise RuntimeError("the engine ended a job without a result")


async def _to_message(event: Event, output: decoder_pb2.DecodeOutput) -> decoder_pb2.DecodeEvent:
    if isinstance(event, Finished):
        image = decoder_pb2.DecodedImage(
            tensor=await asyncio.to_thread(_to_tensor, event.value, output),
            stats=sampling.stats_message(event.stats),
        )
        return decoder_pb2.DecodeEvent(image=image)
    if isinstance(event, Preview):
        return decoder_pb2.DecodeEvent(**await asyncio.to_thread(sampling.event_fields, event))
    return decoder_pb2.DecodeEvent(**sampling.event_fields(event))


def _to_tensor(value: torch.Tensor, output: decoder_pb2.DecodeOutput) -> tensor_pb2.Tensor:
    """[1, 3, H, W] from 0 to 1 as [H, W, 3], or a latent [1, C, h, w] as [C, h, w]."""
    if output == decoder_pb2.DECODE_OUTPUT_LATENTS:
        return tensors.from_torch(value[0])
    picture = value[0].permute(1, 2, 0).float().cpu()
    if output == decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS:
        return tensors.from_torch(picture)
    return tensors.from_torch((picture * 255).round().to(torch.uint8))
