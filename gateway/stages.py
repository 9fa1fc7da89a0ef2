"""Typed clients of the three stages. The only file that knows how a stage is reached.

Every stage of every model sits behind one address, Ray Serve's gRPC proxy, which routes a call by
its `application` metadata. What breaks on the way (no replica, a killed one, a killed proxy) shows
as a status that carries no ErrorInfo of ours. A stage call depends on its request alone, so it is
then simply made again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import tenacity

from gateway.stage_errors import StageBrokeError, deadline_exceeded, domain_error
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
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, carries_reason
from kandinsky.wire.images import Pixels

UNARY_ATTEMPTS = 3
STREAM_ATTEMPTS = 3
"""The first and two restarts."""
LONGEST_PAUSE = 0.2
"""Seconds; each pause between attempts is drawn from 0 to this."""


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
    # gRPC's own backoff grows to two minutes, in which a restarted proxy would look dead.
    backoff = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    return grpc.aio.insecure_channel(address, options=[*OPTIONS, *backoff])


class Stages:
    """The stages of one model, asked on behalf of one request.

    Args:
        channel: from `stage_channel`.
        entry: the model.
        request_id: sent with every call.
        deadline: on `time.monotonic`'s clock; no call outlives it. None: no deadline.
        max_jobs: sampler and picture calls that this request has open at once; further ones wait.
        attempt_seconds: how long one attempt may stay without an answer, or without a first event.

    All methods raise KandinskyError: what the stage said, with field paths of the public request;
    STAGE_UNAVAILABLE where it could not be reached; DEADLINE_EXCEEDED.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        entry: CatalogEntry,
        *,
        request_id: str,
        deadline: float | None = None,
        max_jobs: int = 64,
        attempt_seconds: float = 60.0,
    ) -> None:
        self._encoders = encoders_pb2_grpc.EncoderServiceStub(channel)  # type: ignore[no-untyped-call]
        self._prior = prior_pb2_grpc.PriorServiceStub(channel)  # type: ignore[no-untyped-call]
        self._decoder = decoder_pb2_grpc.DecoderServiceStub(channel)  # type: ignore[no-untyped-call]
        self._entry = entry
        self._request_id = request_id
        self._deadline = deadline
        self._jobs = asyncio.Semaphore(max_jobs)
        self._attempt_seconds = attempt_seconds

    async def encode(self, texts: Mapping[str, str], pictures: Mapping[str, Pixels]) -> Encoded:
        """Encodes texts, in one call, and pictures, in one call each.

        Args:
            texts: by their field paths in the public request; "" may be the last.
            pictures: uint8 [H, W, 3], by their field paths.
        """
        encoded: dict[str, encoders_pb2.TextEncoding] = {}
        zeros: list[tensor_pb2.Tensor] = []
        if texts:
            fields = {f"texts[{k}]": path for k, path in enumerate(texts)}
            request = encoders_pb2.EncodeTextRequest(texts=list(texts.values()))
            answer = await self._ask(Stage.ENCODERS, self._encoders.EncodeText, request, fields)
            encoded = dict(zip(texts, answer.encodings, strict=True))
            zeros = [answer.zero_image_embed] if answer.HasField("zero_image_embed") else []
        seen = await asyncio.gather(*(self._see(*item) for item in pictures.items()))
        zeros += [image.zero_image_embed for image in seen if image.HasField("zero_image_embed")]
        embeds = {key: image.image_embed for key, image in zip(pictures, seen, strict=True)}
        return Encoded(encoded, embeds, zeros[0] if zeros else None)

    async def _see(self, field: str, pixels: Pixels) -> encoders_pb2.EncodeImageResponse:
        request = encoders_pb2.EncodeImageRequest(pixels=tensors.encode(pixels))
        async with self._jobs:
            answer: encoders_pb2.EncodeImageResponse = await self._ask(
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
            self._follow(Stage.PRIOR, call, request, fields, "embedding")
        ) as events:
            async for event in events:
                yield event

    async def decode(
        self, request: decoder_pb2.DecodeRequest, fields: Mapping[str, str]
    ) -> AsyncGenerator[decoder_pb2.DecodeEvent, None]:
        """Runs one decoder job; the last event is the image. Arguments as above."""
        call = self._decoder.Decode
        async with aclosing(self._follow(Stage.DECODER, call, request, fields, "image")) as events:
            async for event in events:
                yield event

    async def alive(self) -> bool:
        """Whether every stage of the model answers; asks each for nothing, which it refuses."""
        probes = {
            Stage.ENCODERS: (self._encoders.EncodeText, encoders_pb2.EncodeTextRequest()),
            Stage.PRIOR: (self._prior.SampleEmbedding, prior_pb2.SampleEmbeddingRequest()),
            Stage.DECODER: (self._decoder.Decode, decoder_pb2.DecodeRequest()),
        }
        answers = [self._answers(stage, *probes[stage]) for stage in self._entry.stages]
        return all(await asyncio.gather(*answers))

    async def _answers(self, stage: Stage, method: Any, request: Any) -> bool:
        call = method(request, metadata=self._metadata(stage), timeout=self._attempt_seconds)
        try:
            await (call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)
        except grpc.aio.AioRpcError as error:
            return carries_reason(error)
        finally:
            call.cancel()
        return True

    async def _ask(self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str]) -> Any:
        async def attempt() -> Any:
            remaining = self._remaining()
            timeout = min(self._attempt_seconds, remaining or self._attempt_seconds)
            try:
                return await method(request, metadata=self._metadata(stage), timeout=timeout)
            except grpc.aio.AioRpcError as error:
                raise self._error(stage, error, fields) from error

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(UNARY_ATTEMPTS),
            wait=tenacity.wait_random(0, LONGEST_PAUSE),
            retry=tenacity.retry_if_exception_type(StageBrokeError),
            reraise=True,
        )
        return await retrying(attempt)

    async def _follow(
        self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str], result: str
    ) -> AsyncGenerator[Any, None]:
        """Events up to the one that has the field `result`; what the stream does after is moot."""
        async with self._jobs:
            for attempt in range(1, STREAM_ATTEMPTS + 1):
                events = self._attempt_stream(stage, method, request, fields)
                try:
                    async with aclosing(events):
                        async for event in events:
                            yield event
                            if event.HasField(result):
                                return
                    raise StageBrokeError(stage)  # it ended well, but without a result
                except StageBrokeError:
                    if attempt == STREAM_ATTEMPTS:
                        raise
                await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))

    async def _attempt_stream(
        self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str]
    ) -> AsyncGenerator[Any, None]:
        call = method(request, timeout=self._remaining(), metadata=self._metadata(stage))
        try:
            async with asyncio.timeout(self._attempt_seconds):
                event = await call.read()
            while event is not grpc.aio.EOF:  # type: ignore[attr-defined]
                yield event
                event = await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._error(stage, error, fields) from error
        except TimeoutError as error:
            raise StageBrokeError(stage) from error
        finally:
            call.cancel()

    def _metadata(self, stage: Stage) -> tuple[tuple[str, str], ...]:
        metadata = [
            ("application", self._entry.application(stage)),
            ("x-request-id", self._request_id),
        ]
        remaining = self._remaining()
        if remaining is not None:
            metadata.append(("x-time-remaining-ms", str(int(remaining * 1000))))
        return tuple(metadata)

    def _remaining(self) -> float | None:
        if self._deadline is None:
            return None
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise deadline_exceeded()
        return remaining

    def _error(
        self, stage: Stage, error: grpc.aio.AioRpcError, fields: Mapping[str, str]
    ) -> KandinskyError:
        known = domain_error(stage, error, fields)
        if isinstance(known, StageBrokeError):
            self._remaining()  # what broke because time was up did not break
        return known
