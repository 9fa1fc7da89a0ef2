"""What every RPC of the gateway has in common: a request id, bounds, errors, a log line, drain."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc.aio
import structlog
from grpc_status import rpc_status

from kandinsky.wire.errors import KandinskyError, Reason, to_status

REQUEST_ID = "x-request-id"
MOST_ID_CHARACTERS = 128
OVERLOADED_RETRY_AFTER = 1.0
"""Seconds; about how long a small image takes, so that room is likely by then."""
DRAINING_RETRY_AFTER = 1.0
"""Seconds; another instance can take the request at once, a restarted one soon."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Call:
    """One request that was let in."""

    request_id: str
    arrived: float
    """On `time.monotonic`'s clock."""
    deadline: float | None
    """The caller's, on the same clock; None where it gave none."""


class Admission:
    """Lets requests in, up to a bound, and sees every one of them out.

    Args:
        max_requests: requests in flight at once; the next one is refused with OVERLOADED.
    """

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def admit(
        self, context: grpc.aio.ServicerContext[Any, Any], rpc: str, **details: str
    ) -> AsyncIterator[Call]:
        """Holds a request's place while its block runs, and answers for what the block raises.

        Args:
            context: the RPC's own.
            rpc: its name, for the log.
            details: what else the request's log lines shall carry.
        """
        call = _call(context)
        structlog.contextvars.bind_contextvars(request_id=call.request_id, rpc=rpc, **details)
        await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
        outcome = "OK"
        try:
            with self._place():
                yield call
        except KandinskyError as error:
            outcome = error.reason.value
            await _abort(context, error)
        except asyncio.CancelledError:
            outcome = Reason.CANCELLED.value
            raise
        except Exception:
            outcome = Reason.INTERNAL.value
            log.exception("unexpected error")
            await _abort(context, _internal(call.request_id))
        finally:
            log.info("request", outcome=outcome, seconds=round(time.monotonic() - call.arrived, 4))

    async def drain(self, seconds: float) -> bool:
        """Refuses new requests from now on and waits for those in flight; whether all ended."""
        self._draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return not self._in_flight

    @contextmanager
    def _place(self) -> Iterator[None]:
        self._check_room()
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def _check_room(self) -> None:
        if self._draining:
            raise KandinskyError(
                Reason.DRAINING,
                "this server is shutting down",
                retry_after=DRAINING_RETRY_AFTER,
            )
        if self._in_flight >= self._max_requests:
            raise KandinskyError(
                Reason.OVERLOADED,
                f"{self._max_requests} requests are in flight, which is the most",
                retry_after=OVERLOADED_RETRY_AFTER,
            )


def _call(context: grpc.aio.ServicerContext[Any, Any]) -> Call:
    now = time.monotonic()
    # The stubs have no None, which a call without a deadline gives.
    remaining: float | None = context.time_remaining()
    given = dict(context.invocation_metadata() or ()).get(REQUEST_ID)
    return Call(
        request_id=str(given) if _is_request_id(given) else uuid.uuid4().hex,
        arrived=now,
        deadline=None if remaining is None else now + remaining,
    )


def _is_request_id(given: object) -> bool:
    return (
        isinstance(given, str)
        and 0 < len(given) <= MOST_ID_CHARACTERS
        and given.isascii()
        and given.isprintable()
    )


def _internal(request_id: str) -> KandinskyError:
    return KandinskyError(
        Reason.INTERNAL,
        f"a fault of this server; its log names it under request id {request_id}",
        metadata={"request_id": request_id},
    )


async def _abort(context: Any, error: KandinskyError) -> NoReturn:
    await context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError("abort_with_status always raises")
