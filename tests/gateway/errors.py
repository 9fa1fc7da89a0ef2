"""What a failed call carried."""

import grpc.aio
import pytest

from kandinsky.wire.errors import carries_reason, from_rpc_error


async def failure(call):
    """The domain error of a call that must fail; a stream is read until it does."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    assert carries_reason(raised.value), raised.value
    return from_rpc_error(raised.value)
