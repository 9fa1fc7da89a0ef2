"""The stages of the tiny model, by their own stubs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2_grpc, encoders_pb2_grpc, prior_pb2_grpc
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, from_rpc_error
from tests.stagehost import StageHost, host_stages


@dataclass
class StageStubs:
    """Calls each stage of `tiny` and gives what it answers, or raises what it said."""

    channel: grpc.aio.Channel
    host: StageHost
    model: str = "tiny"

    async def encoders(self, rpc: str, request: Any, **metadata: str) -> Any:
        stub = encoders_pb2_grpc.EncoderServiceStub
        return await self._ask(stub, Stage.ENCODERS, rpc, request, metadata)

    async def decoder(self, rpc: str, request: Any, **metadata: str) -> Any:
        stub = decoder_pb2_grpc.DecoderServiceStub
        return await self._ask(stub, Stage.DECODER, rpc, request, metadata)

    async def sample_embedding(self, request: Any, **metadata: str) -> list[Any]:
        stub = prior_pb2_grpc.PriorServiceStub(self.channel)
        return await _events(
            stub.SampleEmbedding(request, metadata=self._to(Stage.PRIOR, metadata))
        )

    async def decode(self, request: Any, **metadata: str) -> list[Any]:
        return [event async for event in self.decoding(request, **metadata)]

    async def decode_together(self, **requests: Any) -> list[list[Any]]:
        """As `decode`, by request id: all are in the engine before any of them takes a step."""
        decoder = self.host.decoder
        decoder.hold()
        calls = [
            asyncio.create_task(self.decode(request, x_request_id=name))
            for name, request in requests.items()
        ]
        for name in requests:
            await decoder.arrival(name)
        decoder.release()
        return await asyncio.gather(*calls)

    async def decoding(self, request: Any, **metadata: str) -> AsyncIterator[Any]:
        """The events as they come."""
        stub = decoder_pb2_grpc.DecoderServiceStub(self.channel)
        call = stub.Decode(request, metadata=self._to(Stage.DECODER, metadata))
        try:
            async for event in call:
                yield event
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async def _ask(
        self, stub: Any, stage: Stage, rpc: str, request: Any, metadata: dict[str, str]
    ) -> Any:
        sent = self._to(stage, metadata)
        try:
            return await getattr(stub(self.channel), rpc)(request, metadata=sent)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def _to(self, stage: Stage, metadata: dict[str, str]) -> list[tuple[str, str]]:
        others = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        return [("application", f"{self.model}-{stage.value}"), *others]


@pytest.fixture
async def stages(tiny_checkpoint: Path) -> AsyncIterator[StageStubs]:
    async with (
        host_stages("tiny", tiny_checkpoint) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host)


@pytest.fixture
async def control_stages(tiny_checkpoint: Path) -> AsyncIterator[StageStubs]:
    """Those of the model whose decoder follows a hint."""
    async with (
        host_stages("tiny", tiny_checkpoint, "tiny-control") as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host, "tiny-control")


@pytest.fixture(scope="session")
def plain_images(tiny_checkpoint: Path) -> np.ndarray:
    """Of the decoder without runtime options, as `answers.decoded_images`."""
    from tests.services.answers import decoded_images

    return asyncio.run(decoded_images(tiny_checkpoint, {}))


@pytest.fixture(scope="session")
def plain_embedding(tiny_checkpoint: Path) -> torch.Tensor:
    """Of the prior without runtime options."""
    from tests.services.answers import embedding

    return asyncio.run(embedding(tiny_checkpoint, {}))


@pytest.fixture(scope="session")
def plain_encodings(tiny_checkpoint: Path) -> list[torch.Tensor]:
    """Of the encoders without runtime options."""
    from tests.services.answers import encodings

    return asyncio.run(encodings(tiny_checkpoint, {}))


def fields(error: KandinskyError) -> list[str]:
    """The paths that an error's violations name."""
    return [violation.field for violation in error.violations]


async def _events(call: Any) -> list[Any]:
    try:
        return [event async for event in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
