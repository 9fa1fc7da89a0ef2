"""Admission: what all RPCs share, a request id, quota, deadline, error status, log line, drain."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog
from google.rpc import status_pb2
from grpc_status import rpc_status

from gateway.server.call import REQUEST_ID, Call, check_metadata, read_call
from gateway.server.in_flight_quota import InFlightLease, InFlightQuota
from gateway.stages.stage_errors import deadline_exceeded
from kandinsky.wire.errors import KandinskyError, Reason, to_status

DRAINING_RETRY_AFTER = 1.0
"""Seconds; another instance can take the request at once, a restarted one soon."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Admitted:
    """A request that was admitted."""

    call: Call
    lease: InFlightLease
    """Of images in flight: one, until the request grows it."""


class Admission:
    """Admits requests within a quota, and answers for how each of them ends.

    Args:
        images: of requests in flight, at least one a request; what goes beyond is refused with
            OVERLOADED.
        default_deadline_seconds: how long a request may take whose caller set no deadline.
    """

    def __init__(self, images: int, default_deadline_seconds: float) -> None:
        self._quota = InFlightQuota(images)
        self._default_deadline_seconds = default_deadline_seconds
        self._draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def admit(
        self, context: grpc.aio.ServicerContext[Any, Any], rpc: str
    ) -> AsyncIterator[Admitted]:
        """Lease an image in flight while the block runs, and answer what the block raises.

        Args:
            context: the RPC's own.
            rpc: the RPC's name, for the log.
        """
        call = read_call(context, self._default_deadline_seconds)
        structlog.contextvars.bind_contextvars(
            request_id=call.request_id, rpc=rpc, tenant=call.tenant
        )
        await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
        outcome, status = "OK", None
        self._enter()
        try:
            self._check_draining()
            check_metadata(context)
            with self._quota.lease(call.tenant) as lease:
                async with _until(call.deadline):
                    yield Admitted(call, lease)
        except KandinskyError as error:
            outcome, status = error.reason.value, to_status(error)
            _clear_frames(error)
        except asyncio.CancelledError:
            outcome = Reason.CANCELLED.value
            raise
        except Exception as error:
            log.exception("unexpected error")
            outcome, status = Reason.INTERNAL.value, to_status(_internal(call.request_id))
            _clear_frames(error)
        finally:
            self._leave()
            log.info("request", outcome=outcome, seconds=round(time.monotonic() - call.arrived, 4))
        if status is not None:
            await _end(context, status)

    async def drain(self, seconds: float) -> bool:
        """Refuse new requests from now on, wait for those in flight; return whether all ended."""
        self._draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return not self._in_flight

    def _enter(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _check_draining(self) -> None:
        if self._draining:
            raise KandinskyError(
                Reason.DRAINING,
                "this server is shutting down",
                retry_after=DRAINING_RETRY_AFTER,
            )


def _internal(request_id: str) -> KandinskyError:
    return KandinskyError(
        Reason.INTERNAL,
        f"internal error; find it in the server's log by request id {request_id}",
        metadata={"request_id": request_id},
    )


@asynccontextmanager
async def _until(deadline: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline) as timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise deadline_exceeded() from error


def _clear_frames(error: BaseException) -> None:
    """Free what the frames of a failed request hold: its message, of up to 64 MiB, and its images.

    gRPC keeps the abort of a call in a reference cycle, and by its context these frames too, until
    the garbage collector's next full pass.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__


async def _end(context: Any, status: status_pb2.Status) -> None:
    # Behind an answer that nobody reads the status waits until the caller reads or disconnects;
    # nothing of the request is held any more then.
    with suppress(grpc.aio.InternalError):  # the caller has disconnected
        await context.abort_with_status(rpc_status.to_status(status))
