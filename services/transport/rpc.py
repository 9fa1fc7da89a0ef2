"""The edge of a stage: what every RPC method of the three services has in common.

A request comes as bytes (`services.transport.servicers`) and is decoded here. A handler raises
domain errors; here they become a status with details. Serve's gRPC proxy takes code, details and
trailing metadata from the handler's context, and reads that context only beside an answer, so an
empty answer goes out with each error. The same methods work behind a plain `grpc.aio` server.
"""

import functools
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf.message import Message
from grpc_status import rpc_status

from kandinsky.wire import constraints
from kandinsky.wire.errors import KandinskyError, Reason, invalid, invalid_fields, to_status
from kandinsky.wire.messages import UndecodableError, parse

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
TIME_REMAINING = "x-time-remaining-ms"
TENANT = "x-tenant"
PRIORITY = "x-priority"


class Context(Protocol):
    """What stages use of a gRPC context; Serve's and grpcio's both have it."""

    def invocation_metadata(self) -> Any: ...
    def set_code(self, code: Any) -> None: ...
    def set_details(self, details: str) -> None: ...
    def set_trailing_metadata(self, metadata: Any) -> None: ...


Unary = Callable[[Any, Any, Context], Awaitable[Any]]
Streaming = Callable[[Any, Any, Context], AsyncGenerator[Any, None]]
Method = Callable[[Any, bytes, Context], Awaitable[Any]]
StreamingMethod = Callable[[Any, bytes, Context], AsyncGenerator[Any, None]]


def unary(request: type[Message], response: Callable[[], Any]) -> Callable[[Unary], Method]:
    """Wraps a unary handler.

    Args:
        request: the class of its request.
        response: makes the empty message that goes out with an error.
    """

    def wrap(handler: Unary) -> Method:
        @functools.wraps(handler)
        async def method(self: Any, data: bytes, grpc_context: Context) -> Any:
            try:
                return await handler(self, _checked(request, data), grpc_context)
            except Exception as error:
                _report(grpc_context, error)
                return response()

        return method

    return wrap


def streaming(
    request: type[Message], event: Callable[[], Any]
) -> Callable[[Streaming], StreamingMethod]:
    """Wraps a server-streaming handler; see `unary`."""

    def wrap(handler: Streaming) -> StreamingMethod:
        @functools.wraps(handler)
        async def method(
            self: Any, data: bytes, grpc_context: Context
        ) -> AsyncGenerator[Any, None]:
            try:
                events = handler(self, _checked(request, data), grpc_context)
                async with aclosing(events):
                    async for one in events:
                        yield one
            except Exception as error:
                _report(grpc_context, error)
                yield event()

        return method

    return wrap


def request_id(context: Context) -> str:
    """The caller's request id, "" if it sent none."""
    return _metadata(context).get(REQUEST_ID, "")


def tenant(context: Context) -> str:
    """On whose behalf the call is made; "" if it does not say."""
    return _metadata(context).get(TENANT, "")


def priority(context: Context) -> int:
    """How urgent the call is among its tenant's; 0 if it does not say.

    Raises:
        KandinskyError: INVALID_FIELD if that is no integer.
    """
    given = _metadata(context).get(PRIORITY, "0")
    try:
        return int(given)
    except ValueError as error:
        raise invalid(PRIORITY, "is an integer in metadata") from error


def deadline(context: Context) -> float:
    """`time.monotonic()` at which the caller stops waiting; infinite if it named no time."""
    remaining = _metadata(context).get(TIME_REMAINING, "")
    return time.monotonic() + float(remaining) / 1000 if remaining.isdecimal() else float("inf")


def _checked(kind: type[Message], data: bytes) -> Message:
    """The request, decoded, with every field in the range that the contract states."""
    request = parse(kind, data)
    violations = constraints.check(request)
    if violations:
        raise invalid_fields(violations)
    return request


def _metadata(context: Context) -> dict[str, str]:
    return dict(context.invocation_metadata())


def _report(context: Context, error: Exception) -> None:
    known = request_id(context) or uuid.uuid4().hex
    if isinstance(error, UndecodableError):  # before any handler, which would say who sent it
        logger.warning("request %s refused: %s", known, error.message)
    elif not isinstance(error, KandinskyError):
        logger.exception("request %s failed", known)
        error = KandinskyError(Reason.INTERNAL, "a stage failed on this request")
    status = rpc_status.to_status(to_status(error))
    context.set_code(status.code)
    context.set_details(status.details)
    # Serve adds to it as to a list, and passes on no initial metadata.
    context.set_trailing_metadata([*status.trailing_metadata, (REQUEST_ID, known)])
