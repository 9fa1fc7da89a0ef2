"""A call's messages, read and written under bounds of memory and of time.

An unread message costs nothing: HTTP/2's flow control keeps all but its first kilobytes with the
caller. So a request is admitted first and read then, and what is being read, what is at work, and
how long a caller may take to send or to read are all bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from gateway.server.read_slots import ReadSlots
from gateway.server.tenant_quota import TenantQuota
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import KandinskyError, Reason
from kandinsky.wire.messages import UndecodableError, parse

M = TypeVar("M", bound=Message)

TIMES_FREE = 3
"""A tenant alone holds three quarters of the bytes of requests at work."""
SLOWEST = 256 * 1024
"""Bytes a second; a caller that reads an answer has a second more for each so many."""


@dataclass(frozen=True)
class MessageLimits:
    """Bounds of what callers send and read."""

    request_bytes: int
    """Of the encoded requests at work, two messages at least; what goes beyond is refused with
    OVERLOADED."""
    read_seconds: float
    """How long a request may take to arrive."""
    write_seconds: float
    """How long a message of an answer may wait for its reader, and a second more for each SLOWEST
    bytes of it."""


class Messages:
    """Reads requests and writes answers within limits.

    Args:
        limits: bounds of all calls.
    """

    def __init__(self, limits: MessageLimits) -> None:
        self._limits = limits
        self._slots = ReadSlots(limits.read_seconds)
        self._quota = TenantQuota(
            limits.request_bytes,
            times_free=TIMES_FREE,
            least=MESSAGE_BYTES,
            unit="bytes of requests are at work",
        )

    @asynccontextmanager
    async def read(
        self, context: grpc.aio.ServicerContext[Any, Any], tenant: str, kind: type[M]
    ) -> AsyncIterator[M]:
        """Read a call's request, whose bytes are leased until the block ends.

        Args:
            context: the RPC's own.
            tenant: on whose behalf.
            kind: the class of the request.

        Raises:
            KandinskyError: INVALID_FIELD where it cannot be decoded, OVERLOADED where there is no
                room for it, DEADLINE_EXCEEDED or OVERLOADED where it does not arrive in time.
        """
        async with self._slots.lease(tenant) as slot:
            data: Any = await context.read()
            slot.size = len(data) if isinstance(data, bytes) else 0
        if not isinstance(data, bytes):  # gRPC's mark of an end: none was sent, or it is too large
            raise UndecodableError(kind)
        with self._quota.lease(tenant, len(data)):
            request = parse(kind, data)
            del data  # as large as the request
            yield request

    async def write(self, context: grpc.aio.ServicerContext[Any, Any], message: Message) -> None:
        """Send a message of the answer; return when the caller's side takes it.

        Raises:
            KandinskyError: DEADLINE_EXCEEDED: the caller does not read.
        """
        data = message.SerializeToString()
        seconds = self._limits.write_seconds + len(data) / SLOWEST
        try:
            async with asyncio.timeout(seconds):
                await context.write(data)
        except TimeoutError as error:
            raise KandinskyError(
                Reason.DEADLINE_EXCEEDED, f"the answer was not read for {seconds:.0f} s"
            ) from error
