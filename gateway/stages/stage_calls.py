"""Calls of a stage on behalf of one request: metadata, deadline, further attempts, resume.

The only file that knows how a stage is reached: Serve's proxy routes a call by its `application`
metadata.

What breaks on the way to a stage (no replica, a killed one, a killed proxy or controller) shows as
a status that carries no ErrorInfo of ours; a replica that is stopped says DRAINING. A stage call
depends on its request alone, so it is then made again, and a sampling call goes on from its latest
checkpoint: the result is the same. Both go on until the request's deadline, as long as `Patience`
lasts, or until `Quarantine` finds that the job itself breaks replicas.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import structlog

from gateway.server.call import PRIORITY, REQUEST_ID, TENANT, Call
from gateway.stages.patience import Patience
from gateway.stages.quarantine import Quarantine, Suspicion
from gateway.stages.resume_state import ResumeState
from gateway.stages.stage_errors import (
    StageBrokeError,
    deadline_exceeded,
    domain_error,
    replicas_lost,
)
from kandinsky.catalog.catalog import CatalogEntry, Stage
from kandinsky.wire.errors import KandinskyError, Reason, carries_reason

log = structlog.get_logger()


class StageCalls:
    """How one request calls one model's stages.

    Args:
        entry: the model.
        call: the request; no stage call outlives its deadline.
        quarantine: knows which jobs may break replicas; one for all requests.
        max_jobs: sampler and picture calls that it has open at once; further ones wait.
        attempt_seconds: how long a stage may stay silent, and how long a broken call goes on
            without a replica that takes it.

    Its methods raise KandinskyError: what the stage said, with field paths of the public request;
    STAGE_UNAVAILABLE where it could not be reached; INTERNAL for a job that broke two replicas;
    DEADLINE_EXCEEDED.
    """

    def __init__(
        self,
        entry: CatalogEntry,
        call: Call,
        quarantine: Quarantine,
        max_jobs: int,
        attempt_seconds: float,
    ) -> None:
        self._entry = entry
        self._call = call
        self._quarantine = quarantine
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
        patience = Patience(self._attempt_seconds)
        async with self._suspicion(stage) as suspicion:
            while True:
                await _wait_for_trial(suspicion, patience)
                remaining = self._remaining()
                timeout = min(patience.silence, remaining or patience.silence)
                try:
                    return await method(
                        request,
                        metadata=self._metadata(stage),
                        timeout=timeout,
                        wait_for_ready=patience.is_broken,
                    )
                except grpc.aio.AioRpcError as error:
                    known = self._error(stage, error, fields)
                    if not isinstance(known, StageBrokeError):
                        raise known from error
                    if known.replica_died and suspicion.died(0):
                        raise replicas_lost(stage) from error
                    patience.broke()
                    if patience.is_over:
                        raise known from error
                await self._pause(patience)

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
        trail, patience = ResumeState(request), Patience(self._attempt_seconds)
        async with self.jobs, self._suspicion(stage) as suspicion:
            while True:
                await _wait_for_trial(suspicion, patience)
                events = self._attempt(stage, method, trail.request, fields, patience)
                try:
                    async with aclosing(events):
                        async for event in events:
                            if event.HasField(result):
                                trail.write(getattr(event, result).stats)
                                yield event
                                return
                            is_new = trail.note(event)
                            suspicion.survived(trail.furthest)
                            if is_new:
                                yield event
                    raise StageBrokeError(stage)  # it ended well, but without a result
                except KandinskyError as error:
                    if not _goes_on(error, trail):
                        raise
                    if _is_to_blame(error, trail, suspicion):
                        raise replicas_lost(stage) from error
                    if trail.broke():
                        patience.renew()
                    patience.broke()
                    if patience.is_over:
                        raise
                log.info(
                    "job goes on elsewhere",
                    stage=stage.value,
                    resumes=trail.resumes,
                    step=trail.request.resume_from.step,
                    steps_redone=trail.steps_redone,
                    suspect=suspicion.is_suspect,
                )
                await self._pause(patience)

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
        self,
        stage: Stage,
        method: Any,
        request: Any,
        fields: Mapping[str, str],
        patience: Patience,
    ) -> AsyncGenerator[Any, None]:
        call = method(
            request,
            timeout=self._remaining(),
            metadata=self._metadata(stage),
            wait_for_ready=patience.is_broken,
        )
        try:
            while True:
                # A stage that is alive is never silent for so long, whatever its job does.
                async with asyncio.timeout(patience.silence):
                    event = await call.read()
                if event is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
                patience.answered()
                yield event
        except grpc.aio.AioRpcError as error:
            raise self._error(stage, error, fields) from error
        except TimeoutError as error:
            raise StageBrokeError(stage) from error
        finally:
            call.cancel()

    def _suspicion(self, stage: Stage) -> Suspicion:
        return self._quarantine.suspicion(self._entry.application(stage))

    async def _pause(self, patience: Patience) -> None:
        remaining = self._remaining()
        await asyncio.sleep(patience.pause if remaining is None else min(patience.pause, remaining))

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


def _goes_on(error: KandinskyError, trail: ResumeState) -> bool:
    """Whether a sampling call's failure is none of its request's.

    A job that was let in once is not turned away because the other replicas are full now.
    """
    was_let_in = trail.resumes and error.reason is Reason.OVERLOADED
    return isinstance(error, StageBrokeError) or bool(was_let_in)


def _is_to_blame(error: KandinskyError, trail: ResumeState, suspicion: Suspicion) -> bool:
    if not isinstance(error, StageBrokeError) or not error.replica_died:
        return False
    step = trail.untried
    return step is not None and suspicion.died(step)


async def _wait_for_trial(suspicion: Suspicion, patience: Patience) -> None:
    with patience.suspended():
        await suspicion.wait_for_trial()
