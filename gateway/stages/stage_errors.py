"""A failed stage call as an error of the public API."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio
import structlog

from kandinsky.catalog.family import Stage
from kandinsky.wire.errors import (
    KandinskyError,
    Reason,
    Violation,
    carries_reason,
    from_rpc_error,
    invalid_fields,
)

RETRY_AFTER = 1.0
"""Seconds after which a caller whose stage could not be reached may come back."""

_BROKEN = frozenset(
    {
        grpc.StatusCode.INTERNAL,  # a replica died
        grpc.StatusCode.UNAVAILABLE,  # the proxy died, or has no replica
        grpc.StatusCode.NOT_FOUND,  # a proxy that has just started has no application yet
        grpc.StatusCode.CANCELLED,  # by something on the way; our own caller's is another error
        grpc.StatusCode.DEADLINE_EXCEEDED,  # an attempt's own limit: no replica took the call
    }
)
"""Codes that mean, without an ErrorInfo of ours, that the infrastructure broke."""

log = structlog.get_logger()


class StageBrokeError(KandinskyError):
    """A stage could not be reached or broke before its answer; the same call may succeed elsewhere.

    Args:
        stage: the stage that was asked.
        code: the infrastructure's answer; None where there was none.
    """

    def __init__(self, stage: Stage, code: grpc.StatusCode | None = None) -> None:
        self.replica_died = code is grpc.StatusCode.INTERNAL
        """Whether a replica took the call and died; a proxy that dies answers with another code."""
        sentence = f"the {stage.value} stage did not answer"
        if code is grpc.StatusCode.NOT_FOUND:
            sentence = f"Serve runs no application for the {stage.value} stage"
        super().__init__(
            Reason.STAGE_UNAVAILABLE,
            sentence,
            retry_after=RETRY_AFTER,
            metadata={"stage": stage.value},
        )


def deadline_exceeded() -> KandinskyError:
    """The error for a request whose deadline has passed."""
    return KandinskyError(Reason.DEADLINE_EXCEEDED, "the request's deadline passed")


def replicas_lost(stage: Stage) -> KandinskyError:
    """The error for a job that killed two replicas."""
    return KandinskyError(
        Reason.INTERNAL,
        f"two replicas of the {stage.value} stage died at the same step of this job; "
        "it is not sent to a third",
        metadata={"stage": stage.value},
    )


def domain_error(
    stage: Stage, error: grpc.aio.AioRpcError, fields: Mapping[str, str]
) -> KandinskyError:
    """The error behind a failed stage call: a StageBrokeError where another try makes sense.

    Args:
        stage: the stage that was asked.
        error: what the call raised. Details of the infrastructure, such as stack traces, go to the
            log alone.
        fields: paths in the public request, by the path in the stage's request that they begin.
    """
    if carries_reason(error):
        known = from_rpc_error(error)
        if known.reason is Reason.DRAINING:  # this replica is going away, others are not
            return StageBrokeError(stage)
        return _in_public_fields(known, fields)
    code = error.code()
    log.warning("stage call broke", stage=stage.value, code=code.name, details=error.details())
    if code in _BROKEN:
        return StageBrokeError(stage, code)
    reason = from_rpc_error(error).reason
    return KandinskyError(
        reason,
        f"the call of the {stage.value} stage failed: {code.name}",
        retry_after=None if reason is Reason.INTERNAL else RETRY_AFTER,
        metadata={"stage": stage.value},
    )


def _in_public_fields(error: KandinskyError, fields: Mapping[str, str]) -> KandinskyError:
    if not error.violations:
        return error
    return invalid_fields(
        [Violation(_public(v.field, fields), v.description) for v in error.violations]
    )


def _public(field: str, fields: Mapping[str, str]) -> str:
    for start in sorted(fields, key=len, reverse=True):
        rest = field.removeprefix(start)
        if field.startswith(start) and rest[:1] in ("", ".", "["):
            return fields[start] + rest
    return field
