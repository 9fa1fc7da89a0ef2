"""How a client reaches a server, the same for the sync and the asyncio client."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from kandinsky.wire.errors import KandinskyError, Reason, carries_reason, from_rpc_error

DEFAULT_ADDRESS = "127.0.0.1:50051"


@dataclass(frozen=True)
class Server:
    """A gateway's address, and whether TLS stands before it."""

    address: str
    """HOST:PORT."""
    tls: bool | str | Path = False
    """True trusts the system's certificate authorities; a path names a PEM file of them."""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel needs; None for plaintext.

        Raises:
            OSError: the PEM file cannot be read.
        """
        if self.tls is False:
            return None
        roots = None if self.tls is True else Path(self.tls).read_bytes()
        return grpc.ssl_channel_credentials(roots)

    def error(self, error: grpc.RpcError) -> KandinskyError:
        """The domain error behind a failed call; one that never arrived names the address."""
        known = from_rpc_error(error)
        if known.reason is Reason.STAGE_UNAVAILABLE and not carries_reason(error):
            return KandinskyError(
                known.reason, f"no server answers at {self.address}: {known.message}"
            )
        return known
