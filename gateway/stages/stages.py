"""Typed clients of the three stages, which sit behind one address: Ray Serve's gRPC proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import grpc.aio

from gateway.server.call import Call
from gateway.stages.quarantine import Quarantine
from gateway.stages.stage_calls import StageCalls
from kandinsky.catalog.catalog import CatalogEntry, Stage
from kandinsky.v1 import (
    decoder_pb2,
    decoder_pb2_grpc,
    encoders_pb2,
    encoders_pb2_grpc,
    prior_pb2,
    prior_pb2_grpc,
    tensor_pb2,
)
from kandinsky.wire.channels import OPTIONS


@dataclass(frozen=True)
class Encoded:
    """What the encoders answered."""

    texts: Mapping[str, encoders_pb2.TextEncoding]
    """By the key under which the text was given."""
    pictures: Mapping[str, tensor_pb2.Tensor]
    """Image embeddings [D], by the key under which the picture was given."""
    zero_image_embed: tensor_pb2.Tensor | None = None
    """[D], where the family has an image encoder."""


def stage_channel(address: str) -> grpc.aio.Channel:
    """The channel to the proxy at `host:port`; it connects when first used."""
    options = [
        *OPTIONS,
        # gRPC's own backoff grows to two minutes, in which a restarted proxy would look dead.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # With it comes an end to connections whose far side acknowledges nothing for 20 s. Servers
        # take no pings more often than this.
        ("grpc.keepalive_time_ms", 300_000),
    ]
    return grpc.aio.insecure_channel(address, options=options)


class Stages:
    """The stages of one model, asked on behalf of one request.

    Args:
        channel: from `stage_channel`.
        entry: the model.
        call: the request.
        quarantine: of all requests.
        max_jobs: sampler and picture calls that it has open at once; further ones wait.
        attempt_seconds: how long a stage may stay silent, and a broken call without a replica.

    All methods raise KandinskyError, as those of StageCalls.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        entry: CatalogEntry,
        call: Call,
        quarantine: Quarantine,
        *,
        max_jobs: int = 64,
        attempt_seconds: float,
    ) -> None:
        self._encoders = encoders_pb2_grpc.EncoderServiceStub(channel)  # type: ignore[no-untyped-call]
        self._prior = prior_pb2_grpc.PriorServiceStub(channel)  # type: ignore[no-untyped-call]
        self._decoder = decoder_pb2_grpc.DecoderServiceStub(channel)  # type: ignore[no-untyped-call]
        self._entry = entry
        self._calls = StageCalls(entry, call, quarantine, max_jobs, attempt_seconds)

    async def encode(
        self, texts: Mapping[str, str], pictures: Mapping[str, encoders_pb2.EncodeImageRequest]
    ) -> Encoded:
        """Encodes texts, in one call, and pictures, in one call each.

        Args:
            texts: by their field paths in the public request; "" may be the last.
            pictures: by their field paths.
        """
        encoded: dict[str, encoders_pb2.TextEncoding] = {}
        zeros: list[tensor_pb2.Tensor] = []
        if texts:
            fields = {f"texts[{k}]": path for k, path in enumerate(texts)}
            request = encoders_pb2.EncodeTextRequest(texts=list(texts.values()))
            answer = await self._calls.ask(
                Stage.ENCODERS, self._encoders.EncodeText, request, fields
            )
            encoded = dict(zip(texts, answer.encodings, strict=True))
            zeros = [answer.zero_image_embed] if answer.HasField("zero_image_embed") else []
        seen = await asyncio.gather(*(self._see(*item) for item in pictures.items()))
        zeros += [image.zero_image_embed for image in seen if image.HasField("zero_image_embed")]
        embeds = {key: image.image_embed for key, image in zip(pictures, seen, strict=True)}
        return Encoded(encoded, embeds, zeros[0] if zeros else None)

    async def _see(
        self, field: str, request: encoders_pb2.EncodeImageRequest
    ) -> encoders_pb2.EncodeImageResponse:
        async with self._calls.jobs:
            answer: encoders_pb2.EncodeImageResponse = await self._calls.ask(
                Stage.ENCODERS, self._encoders.EncodeImage, request, {"pixels": field}
            )
        return answer

    async def sample_embedding(
        self, request: prior_pb2.SampleEmbeddingRequest, fields: Mapping[str, str]
    ) -> AsyncGenerator[prior_pb2.SampleEmbeddingEvent, None]:
        """Runs one prior job; the last event is the embedding.

        Args:
            request: the job.
            fields: its field paths in the public request, by their start in `request`.
        """
        call = self._prior.SampleEmbedding
        async with aclosing(
            self._calls.follow(Stage.PRIOR, call, request, fields, "embedding")
        ) as events:
            async for event in events:
                yield event

    async def decode(
        self, request: decoder_pb2.DecodeRequest, fields: Mapping[str, str]
    ) -> AsyncGenerator[decoder_pb2.DecodeEvent, None]:
        """Runs one decoder job; the last event is the image. Arguments as above."""
        call = self._decoder.Decode
        async with aclosing(
            self._calls.follow(Stage.DECODER, call, request, fields, "image")
        ) as events:
            async for event in events:
                yield event

    async def alive(self) -> bool:
        """Whether every stage of the model answers; asks each for nothing, which it refuses."""
        probes = {
            Stage.ENCODERS: (self._encoders.EncodeText, encoders_pb2.EncodeTextRequest()),
            Stage.PRIOR: (self._prior.SampleEmbedding, prior_pb2.SampleEmbeddingRequest()),
            Stage.DECODER: (self._decoder.Decode, decoder_pb2.DecodeRequest()),
        }
        answers = [self._calls.answers(stage, *probes[stage]) for stage in self._entry.stages]
        return all(await asyncio.gather(*answers))
