"""A message that cannot be decoded is the caller's fault, on every RPC, as any other one is."""

import grpc.aio
import pytest

from gateway.server.app import SERVICE
from kandinsky.v1 import models_pb2
from kandinsky.wire.errors import Reason, from_rpc_error
from tests.gateway.errors import failure
from tests.gateway.request_log import request_log

METHODS = {method.name: method for method in SERVICE.methods}


def raw(channel, method):
    """A stub's method that sends bytes."""
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    return make(f"/{SERVICE.full_name}/{method.name}")


@pytest.mark.parametrize("rpc", METHODS)
async def test_what_cannot_be_decoded_is_an_invalid_argument(channel, rpc):
    with request_log() as log:
        call = raw(channel, METHODS[rpc])(b"\x0a\x05", metadata=(("x-request-id", "7"),))
        error = await failure(call)
        # Written once the answer has gone out, which a client may read first.
        assert await log.ended(1) == ["INVALID_FIELD"]
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [""]
    assert METHODS[rpc].input_type.full_name in error.message
    assert dict(await call.initial_metadata())["x-request-id"] == "7"


async def test_a_call_without_a_message_is_refused(channel):
    stub = channel.stream_unary(f"/{SERVICE.full_name}/GenerateImages")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub(iter(()))
    assert from_rpc_error(raised.value).reason is Reason.INVALID_FIELD


async def test_one_more_byte_than_a_message_may_have(channel, api):
    """gRPC's own answer, which the caller's library knows; the next request is served."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary(f"/{SERVICE.full_name}/ListModels")(bytes(64 * 2**20 + 1))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await api.ListModels(models_pb2.ListModelsRequest())).models
