"""Domain errors, and the one table that turns them into gRPC statuses with google.rpc details.

Domain code raises `KandinskyError`; the edge of a server turns it into a `Status` with
`to_status`; a client turns what it received back into the same error with `from_rpc_error`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "kandinsky.v1"


class Reason(StrEnum):
    """Why a request failed: the values of `ErrorReason` in error_reason.proto, unprefixed."""

    INVALID_FIELD = "INVALID_FIELD"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    FLOW_UNSUPPORTED = "FLOW_UNSUPPORTED"
    OVERLOADED = "OVERLOADED"
    ANSWER_TOO_LARGE = "ANSWER_TOO_LARGE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    STAGE_UNAVAILABLE = "STAGE_UNAVAILABLE"
    DRAINING = "DRAINING"
    INTERNAL = "INTERNAL"


STATUS_CODES: Mapping[Reason, grpc.StatusCode] = {
    Reason.INVALID_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.FLOW_UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.ANSWER_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.CANCELLED: grpc.StatusCode.CANCELLED,
    Reason.STAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}


@dataclass(frozen=True)
class Violation:
    """What is wrong with one field of a request."""

    field: str
    """Dotted path from the request, such as `guide.text.prompts[2]`; "" for all of it."""
    description: str
    """One sentence that says what would be right."""


class KandinskyError(Exception):
    """A request that could not be served, and why."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after
        """Seconds after which another try makes sense; None where none was named."""
        self.metadata = dict(metadata or {})

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code that stands for `reason`."""
        return STATUS_CODES[self.reason]


def invalid(field: str, description: str) -> KandinskyError:
    """The error for one field that may not be what it is."""
    return invalid_fields([Violation(field, description)])


def invalid_fields(violations: Sequence[Violation]) -> KandinskyError:
    """The error for all the fields of a request that may not be what they are."""
    message = "; ".join(
        f"{violation.field}: {violation.description}" if violation.field else violation.description
        for violation in violations
    )
    return KandinskyError(Reason.INVALID_FIELD, message, violations=violations)


MESSAGE_TEXT, VIOLATIONS_TEXT, FIELD_TEXT, DESCRIPTION_TEXT, METADATA_TEXT = (
    1024,
    1536,
    128,
    512,
    256,
)
"""Most bytes of UTF-8 in a status's message, in all its violations, in the parts of one, and in one
metadata value. A status travels as HTTP/2 trailers, where gRPC takes 8 KiB in all and answers
RESOURCE_EXHAUSTED beyond: the message stands in them twice, once escaped to up to three times its
size, and the details may grow by a third in base64."""


def to_status(error: KandinskyError) -> status_pb2.Status:
    """The google.rpc.Status of an error: code, message and details.

    Text that would not fit is cut, and violations that would not fit are left out.
    """
    metadata = {key: _cut(value, METADATA_TEXT) for key, value in error.metadata.items()}
    details = [
        error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata)
    ]
    if error.violations:
        bad_request = error_details_pb2.BadRequest()
        room = VIOLATIONS_TEXT
        for violation in error.violations:
            field = _cut(violation.field, FIELD_TEXT)
            description = _cut(violation.description, DESCRIPTION_TEXT)
            room -= len(field.encode()) + len(description.encode()) + 8  # 8: protobuf's own
            if room < 0:
                break
            bad_request.field_violations.add(field=field, description=description)
        details.append(bad_request)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=_cut(error.message, MESSAGE_TEXT))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _cut(text: str, size: int) -> str:
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    return encoded[: size - 3].decode(errors="ignore") + "…"


def from_status(status: status_pb2.Status) -> KandinskyError | None:
    """The error behind a Status; None unless it carries an ErrorInfo of this system."""
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for packed in status.details:
        for detail in (info, bad_request, retry):
            if packed.Is(detail.DESCRIPTOR):
                try:
                    packed.Unpack(detail)
                except DecodeError:  # not written by this system
                    return None
    if info.domain != DOMAIN or info.reason not in Reason.__members__:
        return None
    retry_after = retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None
    return KandinskyError(
        Reason(info.reason),
        status.message,
        violations=[Violation(v.field, v.description) for v in bad_request.field_violations],
        retry_after=retry_after,
        metadata=info.metadata,
    )


FROM_BARE_CODE: Mapping[grpc.StatusCode, Reason] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED: Reason.CANCELLED,
    grpc.StatusCode.UNAVAILABLE: Reason.STAGE_UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.OVERLOADED,
    grpc.StatusCode.UNIMPLEMENTED: Reason.FLOW_UNSUPPORTED,
}
"""What a status means that gRPC itself made, and that so carries no ErrorInfo."""


def from_rpc_error(error: grpc.RpcError) -> KandinskyError:
    """The domain error behind a failed call.

    A status without an ErrorInfo of ours was made by the transport or the infrastructure:
    `carries_reason` tells the two apart.
    """
    status = _status_of(error)
    known = from_status(status) if status is not None else None
    if known is not None:
        return known
    code, details = error.code(), error.details() or ""
    return KandinskyError(FROM_BARE_CODE.get(code, Reason.INTERNAL), details or code.name)


def carries_reason(error: grpc.RpcError) -> bool:
    """Whether this system sent the error itself, and not what carries its messages."""
    status = _status_of(error)
    return status is not None and from_status(status) is not None


def _status_of(error: grpc.RpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):  # contradicts the call, or is not a Status
        return None
