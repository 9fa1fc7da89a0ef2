"""The edge of the stages: what they answer to a message that is none, and when a handler breaks."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import numpy as np
import pytest

from gateway.server.app import Gateway
from gateway.server.config import GatewayConfig
from kandinsky.v1 import (
    adapters_pb2,
    decoder_pb2,
    encoders_pb2,
    generation_pb2_grpc,
    prior_pb2,
)
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import sampling_pb2 as sampling
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason, carries_reason, from_rpc_error
from services.transport.replica import log_through_serve
from services.transport.rpc import streaming, unary
from services.transport.servicers import add_decoder, add_encoders, add_prior

SECRET = "the password is swordfish"
SERVICES = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (encoders_pb2, "EncoderService"),
        (prior_pb2, "PriorService"),
        (decoder_pb2, "DecoderService"),
    )
]
METHODS = {
    f"{service.name}.{method.name}": method for service in SERVICES for method in service.methods
}


class Breaking:
    """All stages; each method raises what no handler should, once `broken` names it."""

    def __init__(self) -> None:
        self.broken = set(METHODS)

    def _break(self, method: str) -> None:
        if method in self.broken:
            raise RuntimeError(SECRET)

    @unary(encoders_pb2.EncodeTextRequest, encoders_pb2.EncodeTextResponse)
    async def EncodeText(self, request: Any, context: Any) -> encoders_pb2.EncodeTextResponse:
        self._break("EncoderService.EncodeText")
        embed = tensors.encode(np.zeros(4, np.float32))
        encoding = encoders_pb2.TextEncoding(prior={"text_embed": embed})
        return encoders_pb2.EncodeTextResponse(
            encodings=[encoding for _ in request.texts], zero_image_embed=embed
        )

    @streaming(prior_pb2.SampleEmbeddingRequest, prior_pb2.SampleEmbeddingEvent)
    async def SampleEmbedding(
        self, request: Any, context: Any
    ) -> AsyncIterator[prior_pb2.SampleEmbeddingEvent]:
        yield prior_pb2.SampleEmbeddingEvent(progress=sampling.Progress(step=1, steps=2))
        self._break("PriorService.SampleEmbedding")

    @streaming(decoder_pb2.DecodeRequest, decoder_pb2.DecodeEvent)
    async def Decode(self, request: Any, context: Any) -> AsyncIterator[decoder_pb2.DecodeEvent]:
        self._break("DecoderService.Decode")
        yield decoder_pb2.DecodeEvent()

    @unary(encoders_pb2.EncodeImageRequest, encoders_pb2.EncodeImageResponse)
    async def EncodeImage(self, request: Any, context: Any) -> Any:
        self._break("EncoderService.EncodeImage")

    @unary(adapters_pb2.CheckAdaptersRequest, adapters_pb2.CheckAdaptersResponse)
    async def CheckAdapters(self, request: Any, context: Any) -> Any:
        self._break("DecoderService.CheckAdapters")

    @unary(decoder_pb2.EncodeLatentsRequest, decoder_pb2.EncodeLatentsResponse)
    async def EncodeLatents(self, request: Any, context: Any) -> Any:
        self._break("DecoderService.EncodeLatents")

    @unary(decoder_pb2.DecodeLatentsRequest, decoder_pb2.DecodeLatentsResponse)
    async def DecodeLatents(self, request: Any, context: Any) -> Any:
        self._break("DecoderService.DecodeLatents")

    @unary(sampling.GetEngineStatsRequest, sampling.EngineStats)
    async def GetEngineStats(self, request: Any, context: Any) -> Any:
        self._break("PriorService.GetEngineStats")


@pytest.fixture
async def breaking() -> AsyncIterator[tuple[Breaking, str]]:
    """The stages and their address."""
    stages, server = Breaking(), grpc.aio.server(options=OPTIONS)
    for add in (add_encoders, add_prior, add_decoder):
        add(stages, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield stages, f"127.0.0.1:{port}"
    await server.stop(None)


async def failure(address: str, rpc: str, data: bytes) -> tuple[KandinskyError, Any]:
    """What a stage's RPC says to some bytes, and the trailing metadata beside it."""
    method = METHODS[rpc]
    async with grpc.aio.insecure_channel(address) as channel:
        make = channel.unary_stream if method.server_streaming else channel.unary_unary
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = make(path)(data, metadata=(("x-request-id", "7"),))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            if method.server_streaming:
                async for _ in call:
                    pass
            else:
                await call
    assert carries_reason(raised.value)
    assert SECRET not in str(raised.value.trailing_metadata())
    return from_rpc_error(raised.value), dict(raised.value.trailing_metadata())


@pytest.mark.parametrize("rpc", METHODS)
async def test_what_cannot_be_decoded_is_an_invalid_argument(breaking, caplog, rpc) -> None:
    error, metadata = await failure(breaking[1], rpc, b"\x0a\x05")
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [""]
    assert METHODS[rpc].input_type.full_name in error.message
    assert metadata["x-request-id"] == "7"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "request 7 refused" in record.getMessage()


@pytest.mark.parametrize("rpc", METHODS)
async def test_a_handler_that_breaks_tells_its_log_alone(breaking, caplog, rpc) -> None:
    error, metadata = await failure(breaking[1], rpc, b"")
    assert error.reason is Reason.INTERNAL
    assert SECRET not in error.message
    assert metadata["x-request-id"] == "7"
    (record,) = caplog.records
    assert "request 7 failed" in record.getMessage()
    assert SECRET in str(record.exc_info)


@pytest.mark.parametrize("broken", ["EncoderService.EncodeText", "PriorService.SampleEmbedding"])
@pytest.mark.parametrize("form", ["Generate", "GenerateImages"])
async def test_a_handler_that_breaks_tells_the_public_caller_nothing(
    breaking, broken, form
) -> None:
    stages, address = breaking
    stages.broken = {broken}
    gateway = Gateway(GatewayConfig(listen="127.0.0.1:0", stages=address, drain_seconds=0))
    port = await gateway.start()
    request = generation.GenerateRequest(model="shapes")
    request.guide.text.prompts.append("a")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = getattr(generation_pb2_grpc.GenerationServiceStub(channel), form)(request)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            if form == "Generate":
                async for _ in call:
                    pass
            else:
                await call
    await gateway.stop()
    assert from_rpc_error(raised.value).reason is Reason.INTERNAL
    assert SECRET not in f"{raised.value.details()} {raised.value.trailing_metadata()}"


def test_a_replica_logs_through_serve(monkeypatch, caplog) -> None:
    monkeypatch.setattr(logging.getLogger("services"), "parent", logging.root)
    serves = logging.getLogger("ray.serve")
    monkeypatch.setattr(serves, "propagate", False)
    monkeypatch.setattr(serves, "handlers", [caplog.handler])
    monkeypatch.setattr(serves, "level", logging.WARNING)
    log_through_serve()
    logging.getLogger("services.transport.rpc").warning("heard")
    assert [record.getMessage() for record in caplog.records] == ["heard"]
