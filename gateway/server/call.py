"""The caller, its deadline, tenant and priority, as a request's metadata states them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc.aio

from kandinsky.wire.errors import Violation, invalid_fields

REQUEST_ID = "x-request-id"
TENANT = "x-tenant"
PRIORITY = "x-priority"
MOST_ID_CHARACTERS = 128
MOST_TENANT_CHARACTERS = 64
MOST_PRIORITY = 100
"""Priorities go from minus this to this."""


@dataclass(frozen=True)
class Call:
    """One call of the public API."""

    request_id: str
    arrived: float
    """On `time.monotonic`'s clock."""
    deadline: float | None = None
    """On the same clock: the caller's, or the gateway's default where the caller set none. None for
    the gateway's own calls."""
    tenant: str = ""
    """On whose behalf; tenants share the stages fairly. "" is a tenant like any other."""
    priority: int = 0
    """Higher goes before lower among a tenant's own."""


def read_call(context: grpc.aio.ServicerContext[Any, Any], default_deadline_seconds: float) -> Call:
    """Read the call behind a context; invalid metadata is left at its default.

    Args:
        context: the RPC's own.
        default_deadline_seconds: how long a call may take whose caller set no deadline.
    """
    now = time.monotonic()
    # The stubs have no None, which a call without a deadline returns.
    remaining: float | None = context.time_remaining()
    metadata = _metadata(context)
    given = metadata.get(REQUEST_ID)
    has_id = _is_printable(given, MOST_ID_CHARACTERS)
    tenant, priority = metadata.get(TENANT), metadata.get(PRIORITY)
    return Call(
        request_id=str(given) if has_id else uuid.uuid4().hex,
        arrived=now,
        deadline=now + (default_deadline_seconds if remaining is None else remaining),
        tenant=str(tenant) if _is_printable(tenant, MOST_TENANT_CHARACTERS) else "",
        priority=int(str(priority)) if _is_priority(priority) else 0,
    )


def check_metadata(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Refuse a call whose tenant or priority is invalid.

    Raises:
        KandinskyError: INVALID_FIELD with the metadata keys.
    """
    metadata, wrong = _metadata(context), []
    tenant, priority = metadata.get(TENANT), metadata.get(PRIORITY)
    if tenant is not None and not _is_printable(tenant, MOST_TENANT_CHARACTERS):
        rule = f"metadata of 1 to {MOST_TENANT_CHARACTERS} printable ASCII characters"
        wrong.append(Violation(TENANT, rule))
    if priority is not None and not _is_priority(priority):
        rule = f"metadata, an integer from -{MOST_PRIORITY} to {MOST_PRIORITY}"
        wrong.append(Violation(PRIORITY, rule))
    if wrong:
        raise invalid_fields(wrong)


def _metadata(context: grpc.aio.ServicerContext[Any, Any]) -> Mapping[str, object]:
    return dict(context.invocation_metadata() or ())


def _is_printable(given: object, most: int) -> bool:
    return (
        isinstance(given, str)
        and 0 < len(given) <= most
        and given.isascii()
        and given.isprintable()
    )


def _is_priority(given: object) -> bool:
    if not isinstance(given, str) or not given.removeprefix("-").isdecimal() or not given.isascii():
        return False
    return len(given) <= 4 and abs(int(given)) <= MOST_PRIORITY
