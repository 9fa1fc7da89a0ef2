"""How a client reaches a server, the same for the sync and the asyncio client."""

import re
from dataclasses import dataclass
from pathlib import Path

import grpc

from kandinsky.wire.errors import KandinskyError, Reason, carries_reason, from_rpc_error, invalid

DEFAULT_ADDRESS = "127.0.0.1:50051"
LONGEST_TIMEOUT = 1e9
"""Seconds, 31 years. gRPC counts nanoseconds in 64 bits, and treats much more as nothing."""

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def address_fault(address: str) -> str | None:
    """Why gRPC cannot connect to this address; None where it is HOST:PORT."""
    match = _ADDRESS.fullmatch(address)
    if match and 1 <= int(match[1]) <= 65535:
        return None
    return f"{address!r} is not HOST:PORT, such as {DEFAULT_ADDRESS} or [::1]:50051"


def timeout_fault(seconds: float) -> str | None:
    """Why a call cannot take so many seconds at most; None where it can."""
    try:
        if 0 < float(seconds) <= LONGEST_TIMEOUT:  # false for NaN
            return None
    except (TypeError, ValueError):
        pass
    return (
        f"{seconds!r} is not a number of seconds above 0 and up to {LONGEST_TIMEOUT:.0e}; "
        "leave it out to wait without a limit"
    )


@dataclass(frozen=True)
class Call:
    """What goes with one call."""

    limit: float | None
    """Seconds that it may take."""
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Server:
    """A gateway's address, whether TLS stands before it, and what every call to it carries.

    Raises:
        KandinskyError: INVALID_FIELD for an address or a timeout that gRPC cannot use.
    """

    address: str
    """HOST:PORT."""
    tls: bool | str | Path = False
    """True trusts the system's certificate authorities; a path names a PEM file of them."""
    timeout: float | None = None
    """Seconds that a call may take which names no limit of its own; None waits without one."""
    tenant: str | None = None
    """On whose behalf."""
    priority: int | None = None
    """Among the tenant's own."""

    def __post_init__(self) -> None:
        if fault := address_fault(self.address):
            raise invalid("address", fault)
        self.limit(None)

    def call(self, timeout: float | None, request_id: str | None) -> Call:
        """What goes with a call; the server makes a request id where None is passed.

        Raises:
            KandinskyError: INVALID_FIELD for a timeout that gRPC cannot use, or if a text is not
                printable ASCII.
        """
        found = {"x-request-id": request_id, "x-tenant": self.tenant}
        for key, text in found.items():
            if text is not None and not (text and text.isascii() and text.isprintable()):
                raise invalid(key, "must be one or more printable ASCII characters")
        found["x-priority"] = None if self.priority is None else str(self.priority)
        metadata = tuple((key, text) for key, text in found.items() if text is not None)
        return Call(self.limit(timeout), metadata)

    def limit(self, timeout: float | None) -> float | None:
        """Seconds that a call may take: its own timeout, else the connection's.

        Raises:
            KandinskyError: INVALID_FIELD unless the timeout is above 0 and finite.
        """
        seconds = self.timeout if timeout is None else timeout
        if seconds is None:
            return None
        if fault := timeout_fault(seconds):
            raise invalid("timeout", fault)
        return float(seconds)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel needs; None for plaintext.

        Raises:
            OSError: the PEM file cannot be read.
        """
        if self.tls is False:
            return None
        roots = None if self.tls is True else Path(self.tls).read_bytes()
        return grpc.ssl_channel_credentials(roots)

    def error(self, error: grpc.RpcError, limit: float | None) -> KandinskyError:
        """The domain error behind a failed call.

        Where gRPC itself ended the call, the message names the address or the deadline.

        Args:
            error: as gRPC raised it.
            limit: seconds that the call was allowed.
        """
        known = from_rpc_error(error)
        if carries_reason(error):
            return known
        if known.reason is Reason.STAGE_UNAVAILABLE:
            return KandinskyError(
                known.reason, f"no server answers at {self.address}: {known.message}"
            )
        if known.reason is Reason.DEADLINE_EXCEEDED and limit is not None:
            return KandinskyError(
                known.reason,
                f"the deadline of {limit:g} s passed before the server at {self.address} "
                "had answered",
            )
        return known
