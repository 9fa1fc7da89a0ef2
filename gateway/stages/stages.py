"""Typed clients of the three stages, which are behind one address: Ray Serve's gRPC proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc.aio

from gateway.server.call import Call
from gateway.stages.quarantine import Quarantine
from gateway.stages.stage_calls import StageCalls
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.v1 import (
    adapters_pb2,
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
    """The encoders' answers."""

    texts: Mapping[str, encoders_pb2.TextEncoding]
    """By the field path of the text."""
    images: Mapping[str, encoders_pb2.EncodeImageResponse]
    """By the field path of the image."""
    zero_image_embed: tensor_pb2.Tensor | None = None
    """[D], where the family has an image encoder."""


def stage_channel(address: str) -> grpc.aio.Channel:
    """The channel to the proxy at `host:port`; it connects when first used."""
    options = [
        *OPTIONS,
        # gRPC's own backoff grows to two minutes, in which a restarted proxy would stay unseen.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Closes connections whose far side acknowledges nothing for 20 s. Servers refuse pings more
        # often than this.
        ("grpc.keepalive_time_ms", 300_000),
    ]
    return grpc.aio.insecure_channel(address, options=options)


class Stages:
    """The stages of one model, called on behalf of one request.

    Args:
        channel: from `stage_channel`.
        entry: the model.
        call: the request.
        quarantine: of all requests.
        max_jobs: sampling and image calls that it has open at once; further ones wait.
        patience_seconds: how long a stage may stay silent, and how long a broken call is retried.

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
        patience_seconds: float,
    ) -> None:
        self._encoders = encoders_pb2_grpc.EncoderServiceStub(channel)  # type: ignore[no-untyped-call]
        self._prior = prior_pb2_grpc.PriorServiceStub(channel)  # type: ignore[no-untyped-call]
        self._decoder = decoder_pb2_grpc.DecoderServiceStub(channel)  # type: ignore[no-untyped-call]
        self._entry = entry
        self._calls = StageCalls(entry, call, quarantine, max_jobs, patience_seconds)

    async def encode(
        self,
        texts: Mapping[str, str],
        images: Mapping[str, encoders_pb2.EncodeImageRequest],
        adapters: Sequence[adapters_pb2.Adapter] = (),
    ) -> Encoded:
        """Encode texts, in one call, and images, in one call each.

        Args:
            texts: by their field paths in the public request.
            images: by their field paths.
            adapters: that change the text encoder.
        """
        encoded: dict[str, encoders_pb2.TextEncoding] = {}
        zeros: list[tensor_pb2.Tensor] = []
        if texts:
            fields = {f"texts[{k}]": path for k, path in enumerate(texts)}
            fields["adapters"] = "adapters"
            request = encoders_pb2.EncodeTextRequest(texts=texts.values(), adapters=adapters)
            answer = await self._calls.unary(
                Stage.ENCODERS, self._encoders.EncodeText, request, fields
            )
            encoded = dict(zip(texts, answer.encodings, strict=True))
            zeros = [answer.zero_image_embed] if answer.HasField("zero_image_embed") else []
        answers = await asyncio.gather(*(self._encode_image(*item) for item in images.items()))
        zeros += [each.zero_image_embed for each in answers if each.HasField("zero_image_embed")]
        shown = dict(zip(images, answers, strict=True))
        return Encoded(encoded, shown, zeros[0] if zeros else None)

    async def encode_skipping(
        self,
        texts: Mapping[str, str],
        clip_skip: int,
        adapters: Sequence[adapters_pb2.Adapter] = (),
    ) -> Mapping[str, encoders_pb2.TextEncoding]:
        """Encode texts, in one call, without the text encoder's last layers.

        Args:
            texts: by their field paths in the public request.
            clip_skip: layers that are left out.
            adapters: as of `encode`.

        Returns:
            By the same paths.
        """
        fields = {f"texts[{k}]": path for k, path in enumerate(texts)}
        request = encoders_pb2.EncodeTextRequest(
            texts=texts.values(), clip_skip=clip_skip, adapters=adapters
        )
        answer = await self._calls.unary(
            Stage.ENCODERS,
            self._encoders.EncodeText,
            request,
            {**fields, "clip_skip": "decoder.clip_skip", "adapters": "adapters"},
        )
        return dict(zip(texts, answer.encodings, strict=True))

    async def check_adapter(self, adapter: adapters_pb2.Adapter, field: str) -> int:
        """Load an adapter in a replica of each stage that may have a use for it.

        Args:
            adapter: pinned.
            field: of its file in the public request.

        Returns:
            Layers that it changes, and embeddings that it adds.
        """
        methods = {
            Stage.ENCODERS: self._encoders.CheckAdapters,
            Stage.DECODER: self._decoder.CheckAdapters,
        }
        request = adapters_pb2.CheckAdaptersRequest(adapters=[adapter])
        fields = {"adapters[0]": field, "adapters[0].name": field}
        answers = await asyncio.gather(
            *(
                self._calls.unary(stage, method, request, fields)
                for stage, method in methods.items()
            )
        )
        return sum(answer.changes for answer in answers)

    async def _encode_image(
        self, field: str, request: encoders_pb2.EncodeImageRequest
    ) -> encoders_pb2.EncodeImageResponse:
        async with self._calls.jobs:
            answer: encoders_pb2.EncodeImageResponse = await self._calls.unary(
                Stage.ENCODERS, self._encoders.EncodeImage, request, {"pixels": field}
            )
        return answer

    async def sample_embedding(
        self, request: prior_pb2.SampleEmbeddingRequest, fields: Mapping[str, str]
    ) -> AsyncGenerator[prior_pb2.SampleEmbeddingEvent, None]:
        """Run one prior job; the last event is the embedding.

        Args:
            request: the job.
            fields: its field paths in the public request, by their start in `request`.
        """
        call = self._prior.SampleEmbedding
        async with aclosing(
            self._calls.stream(Stage.PRIOR, call, request, fields, "embedding")
        ) as events:
            async for event in events:
                yield event

    async def decode(
        self, request: decoder_pb2.DecodeRequest, fields: Mapping[str, str]
    ) -> AsyncGenerator[decoder_pb2.DecodeEvent, None]:
        """Run one decoder job; the last event is the image. Arguments as above."""
        call = self._decoder.Decode
        async with aclosing(
            self._calls.stream(Stage.DECODER, call, request, fields, "image")
        ) as events:
            async for event in events:
                yield event

    async def alive(self) -> bool:
        """Return whether every stage of the model answers; each refuses an empty request."""
        probes = {
            Stage.ENCODERS: (self._encoders.EncodeText, encoders_pb2.EncodeTextRequest()),
            Stage.PRIOR: (self._prior.SampleEmbedding, prior_pb2.SampleEmbeddingRequest()),
            Stage.DECODER: (self._decoder.Decode, decoder_pb2.DecodeRequest()),
        }
        answers = [self._calls.probe(stage, *probes[stage]) for stage in self._entry.stages]
        return all(await asyncio.gather(*answers))


@dataclass(frozen=True)
class StageAccess:
    """How requests reach the stages."""

    channel: grpc.aio.Channel
    max_jobs: int
    """Stage jobs that one request has open at once."""
    patience_seconds: float
    """How long a stage may stay silent, and how long a broken call is retried."""
    quarantine: Quarantine = field(default_factory=Quarantine)

    def stages(self, entry: CatalogEntry, call: Call) -> Stages:
        """The stages of a model, on behalf of one request."""
        return Stages(
            self.channel,
            entry,
            call,
            self.quarantine,
            max_jobs=self.max_jobs,
            patience_seconds=self.patience_seconds,
        )
