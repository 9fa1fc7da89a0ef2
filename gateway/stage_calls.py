"""Calls of a stage on behalf of one request: metadata, deadline, further attempts, resume.

The only file that knows how a stage is reached: Serve's proxy routes a call by its `application`
metadata.

What breaks on the way to a stage (no replica, a killed one, a killed proxy) shows as a status
that carries no ErrorInfo of ours; a replica that is stopped says DRAINING. A stage call depends
on its request alone, so it is then made again, and a sampling call goes on from its latest
checkpoint: the result is the same.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import structlog
import tenacity

from gateway.call import PRIORITY, REQUEST_ID, TENANT, Call
from gateway.stage_errors import StageBrokeError, deadline_exceeded, domain_error
from gateway.trail import Trail
from kandinsky.catalog.catalog import CatalogEntry, Stage
from kandinsky.wire.errors import KandinskyError, Reason, carries_reason

UNARY_ATTEMPTS = 3
UNARY_PAUSE = 0.2
"""Seconds; each pause between attempts is drawn from 0 to this."""
FUTILE_ATTEMPTS = 8
"""Attempts of a sampling call, one after the other, that came no further than those before."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds: the pause before the next of those is drawn from 0 to a bound that doubles."""

log = structlog.get_logger()


class StageCalls:
    """How one request calls one model's stages.

    Args:
        entry: the model.
        call: the request; no stage call outlives its deadline.
        max_jobs: sampler and picture calls that it has open at once; further ones wait.
        attempt_seconds: how long a stage may stay silent, and a broken call without a replica
            that takes it.

    Its methods raise KandinskyError: what the stage said, with field paths of the public request;
    STAGE_UNAVAILABLE where it could not be reached; DEADLINE_EXCEEDED.
    """

    def __init__(
        self, entry: CatalogEntry, call: Call, max_jobs: int, attempt_seconds: float
    ) -> None:
        self._entry = entry
        self._call = call
        self.jobs = asyncio.Semaphore(max_jobs)
        """A place for each sampler and picture call."""
        self._attempt_seconds = attempt_seconds

    async def ask(self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str]) -> Any:
        """The answer of a unary call.

        Args:
            stage: to ask.
            method: of its stub.
            request: to send.
            fields: paths in the public request, by the start of the path in `request`.
        """

        async def attempt() -> Any:
            remaining = self._remaining()
            timeout = min(self._attempt_seconds, remaining or self._attempt_seconds)
            try:
                return await method(request, metadata=self._metadata(stage), timeout=timeout)
            except grpc.aio.AioRpcError as error:
                raise self._error(stage, error, fields) from error

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(UNARY_ATTEMPTS),
            wait=tenacity.wait_random(0, UNARY_PAUSE),
            retry=tenacity.retry_if_exception_type(StageBrokeError),
            reraise=True,
        )
        return await retrying(attempt)

    async def follow(
        self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str], result: str
    ) -> AsyncGenerator[Any, None]:
        """A sampling call's events up to its result, wherever its job goes on.

        Each step is told once. The result's stats say how often the job was resumed.

        Args:
            stage: to ask.
            method: of its stub.
            request: to send.
            fields: as for `ask`.
            result: the field of an event that holds the result; what comes after it is moot.
        """
        trail = Trail(request)
        futile, broken_since = 0, time.monotonic()
        async with self.jobs:
            while True:
                events = self._attempt(stage, method, trail.request, fields)
                try:
                    async with aclosing(events):
                        async for event in events:
                            if event.HasField(result):
                                stats = getattr(event, result).stats
                                stats.resumes = trail.resumes
                                stats.steps_redone = trail.steps_redone
                                yield event
                                return
                            if trail.note(event):
                                yield event
                    raise StageBrokeError(stage)  # it ended well, but without a result
                except KandinskyError as error:
                    if not _goes_on(error, trail):
                        raise
                    if trail.broke() or not futile:
                        futile, broken_since = 0, time.monotonic()
                    futile += 1
                    is_over = time.monotonic() - broken_since > self._attempt_seconds
                    if is_over or futile == FUTILE_ATTEMPTS:
                        raise
                log.info(
                    "job goes on elsewhere",
                    stage=stage.value,
                    resumes=trail.resumes,
                    step=trail.request.resume_from.step,
                    steps_redone=trail.steps_redone,
                )
                await asyncio.sleep(_pause(futile))

    async def answers(self, stage: Stage, method: Any, request: Any) -> bool:
        """Whether the stage answers, be it with a refusal, in the time of one attempt."""
        call = method(request, metadata=self._metadata(stage), timeout=self._attempt_seconds)
        try:
            await (call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)
        except grpc.aio.AioRpcError as error:
            return carries_reason(error)
        finally:
            call.cancel()
        return True

    async def _attempt(
        self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str]
    ) -> AsyncGenerator[Any, None]:
        call = method(request, timeout=self._remaining(), metadata=self._metadata(stage))
        try:
            while True:
                # A stage that is alive is never silent for so long, whatever its job does.
                async with asyncio.timeout(self._attempt_seconds):
                    event = await call.read()
                if event is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
                yield event
        except grpc.aio.AioRpcError as error:
            raise self._error(stage, error, fields) from error
        except TimeoutError as error:
            raise StageBrokeError(stage) from error
        finally:
            call.cancel()

    def _metadata(self, stage: Stage) -> tuple[tuple[str, str], ...]:
        call = self._call
        metadata = [("application", self._entry.application(stage)), (REQUEST_ID, call.request_id)]
        if call.tenant:
            metadata.append((TENANT, call.tenant))
        if call.priority:
            metadata.append((PRIORITY, str(call.priority)))
        remaining = self._remaining()
        if remaining is not None:
            metadata.append(("x-time-remaining-ms", str(int(remaining * 1000))))
        return tuple(metadata)

    def _remaining(self) -> float | None:
        if self._call.deadline is None:
            return None
        remaining = self._call.deadline - time.monotonic()
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


def _goes_on(error: KandinskyError, trail: Trail) -> bool:
    """Whether a sampling call's failure is none of its request's.

    A job that was let in once is not turned away because the other replicas are full now.
    """
    was_let_in = trail.resumes and error.reason is Reason.OVERLOADED
    return isinstance(error, StageBrokeError) or bool(was_let_in)


def _pause(futile: int) -> float:
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**futile))
