"""Calls of a stage on behalf of one request: metadata, deadline, further attempts, resume.

The only file that knows how a stage is reached: Serve's proxy routes a call by its `application`
metadata.

A failure on the way to a stage (no replica, a killed one, a killed proxy or controller) shows as a
status that carries no ErrorInfo of ours; a replica that shuts down answers DRAINING. A stage call
depends on its request alone, so it is then retried, and a sampling call resumes from its latest
snapshot: the result is the same. Retries end at the request's deadline, when `Patience` is over, or
when `Quarantine` finds that the job itself kills replicas.
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
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.v1.decoder_pb2 import DecodeRequest
from kandinsky.wire.errors import KandinskyError, Reason, carries_reason

log = structlog.get_logger()

KIND = "multiplexed_model_id"
"""Serve's metadata key that reaches the routers; see services/transport/sharing_router.py."""


class StageCalls:
    """Calls one model's stages on behalf of one request.

    Args:
        entry: the model.
        call: the request; no stage call outlives its deadline.
        quarantine: of all requests.
        max_jobs: sampling and image calls that it has open at once; further ones wait.
        patience_seconds: how long a stage may stay silent, and how long a broken call is retried
            without a replica that takes it.

    Its methods raise KandinskyError: the stage's own, with field paths of the public request;
    STAGE_UNAVAILABLE where it could not be reached; INTERNAL for a job that killed two replicas;
    DEADLINE_EXCEEDED.
    """

    def __init__(
        self,
        entry: CatalogEntry,
        call: Call,
        quarantine: Quarantine,
        max_jobs: int,
        patience_seconds: float,
    ) -> None:
        self._entry = entry
        self._call = call
        self._quarantine = quarantine
        self.jobs = asyncio.Semaphore(max_jobs)
        """One for each sampling and image call."""
        self._patience_seconds = patience_seconds

    async def unary(
        self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str]
    ) -> Any:
        """Make a unary call and return its answer.

        Args:
            stage: to call.
            method: of its stub.
            request: to send.
            fields: paths in the public request, by the start of the path in `request`.
        """
        patience = Patience(self._patience_seconds)
        async with self._suspicion(stage) as suspicion:
            while True:
                with patience.suspended():
                    await suspicion.wait_for_trial()
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
                    if known.replica_died and suspicion.note_death(0):
                        raise replicas_lost(stage) from error
                    patience.note_break()
                    if patience.is_over:
                        raise known from error
                await self._pause(patience)

    async def stream(
        self, stage: Stage, method: Any, request: Any, fields: Mapping[str, str], result: str
    ) -> AsyncGenerator[Any, None]:
        """Make a sampling call and yield its events up to its result, wherever its job resumes.

        Each step is reported once. The result's stats count how often the job was resumed.

        Args:
            stage: to call.
            method: of its stub.
            request: to send.
            fields: as for `unary`.
            result: the field of an event that holds the result; what comes after it is not read.
        """
        state, patience = ResumeState(request), Patience(self._patience_seconds)
        async with self.jobs, self._suspicion(stage) as suspicion:
            while True:
                with patience.suspended():
                    await suspicion.wait_for_trial()
                events = self._attempt(stage, method, state.request, fields, patience)
                try:
                    async with aclosing(events):
                        async for event in events:
                            if event.HasField(result):
                                state.write(getattr(event, result).stats)
                                yield event
                                return
                            is_new = state.note(event)
                            suspicion.note_step(state.furthest)
                            if is_new:
                                yield event
                    raise StageBrokeError(stage)  # it ended with OK, but without a result
                except KandinskyError as error:
                    if not _can_resume(error, state):
                        raise
                    if _is_to_blame(error, state, suspicion):
                        raise replicas_lost(stage) from error
                    if state.note_break():
                        patience.renew()
                    patience.note_break()
                    if patience.is_over:
                        raise
                log.info(
                    "job resumed",
                    stage=stage.value,
                    resumes=state.resumes,
                    step=state.request.resume_from.step,
                    steps_redone=state.steps_redone,
                    suspect=suspicion.is_suspect,
                )
                await self._pause(patience)

    async def probe(self, stage: Stage, method: Any, request: Any) -> bool:
        """Return whether the stage answers within its patience, be it with a refusal."""
        call = method(request, metadata=self._metadata(stage), timeout=self._patience_seconds)
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
            metadata=(*self._metadata(stage), *_kind(request)),
            wait_for_ready=patience.is_broken,
        )
        try:
            while True:
                # A live stage sends something well within this time, whatever its job does.
                async with asyncio.timeout(patience.silence):
                    event = await call.read()
                if event is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
                patience.note_answer()
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
            self._remaining()  # a call that ended with its deadline did not break
        return known


def _kind(request: Any) -> list[tuple[str, str]]:
    """What Decode calls that could share forwards have in common, as Serve's routers read it."""
    if not isinstance(request, DecodeRequest):
        return []
    start = request.start
    network = "inpaint" if start.HasField("inpaint") else "plain"
    return [(KIND, f"{network} {start.width}x{start.height}")]


def _can_resume(error: KandinskyError, state: ResumeState) -> bool:
    """Whether a sampling call's failure is not its request's.

    A job that was admitted once is not refused because the other replicas are full now.
    """
    was_admitted = state.resumes and error.reason is Reason.OVERLOADED
    return isinstance(error, StageBrokeError) or bool(was_admitted)


def _is_to_blame(error: KandinskyError, state: ResumeState, suspicion: Suspicion) -> bool:
    if not isinstance(error, StageBrokeError) or not error.replica_died:
        return False
    step = state.untried
    return step is not None and suspicion.note_death(step)
