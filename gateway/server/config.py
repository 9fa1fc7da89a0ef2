"""The gateway's configuration, checked once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.requests.input_images import REQUEST_PIXELS
from kandinsky.wire.channels import MESSAGE_BYTES


class GatewayConfig(BaseModel):
    """Where the gateway listens, which stages it calls, what it serves, and how much at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Annotated[str, Field(pattern=r"^.+:\d+$")] = "127.0.0.1:50051"
    """`host:port`; port 0 takes any free one. Plaintext."""
    stages: Annotated[str, Field(pattern=r"^.+:\d+$")] = "127.0.0.1:9000"
    """`host:port` of the stages' gRPC proxy."""
    models: tuple[str, ...] = Field(default=("shapes",), min_length=1)
    """Names in the catalog."""
    catalog: tuple[Path, ...] = ()
    """Folders of further catalog entries."""
    max_requests: int = Field(default=128, ge=1)
    """Images of requests in flight, of a request up to `max_jobs`; what goes beyond is refused with
    OVERLOADED. One tenant alone gets three quarters, of several each less, so that some is left."""
    max_jobs: int = Field(default=64, ge=1)
    """Stage jobs that one request has open at once."""
    request_bytes: int = Field(default=512 * 2**20, ge=2 * MESSAGE_BYTES)
    """Bytes of encoded requests at work; what goes beyond is refused with OVERLOADED. One tenant
    alone gets three quarters, of several each less."""
    read_seconds: float = Field(default=60, gt=0)
    """How long a request may take to arrive."""
    write_seconds: float = Field(default=30, gt=0)
    """How long a message of an answer may wait for its reader; one second more for each 256 KiB
    of it. Then the request ends."""
    default_deadline_seconds: float = Field(default=3600, gt=0)
    """How long a request may take whose caller set no deadline."""
    codec_threads: int = Field(default=2, ge=1)
    """Threads that decode and encode image files; decoding leaves one of them to other work."""
    input_pixels: int = Field(default=2 * REQUEST_PIXELS, ge=2 * REQUEST_PIXELS)
    """Pixels of input images that requests hold decoded at once, about 16 bytes of memory each. One
    tenant alone gets half; requests that find no room wait, in a fair queue over tenants."""
    input_wait_seconds: float = Field(default=10, gt=0)
    """How long a request waits for that room; then it is refused with OVERLOADED."""
    patience_seconds: float = Field(default=300, gt=0)
    """How long a stage may stay silent, and how long a broken call is retried while no replica
    takes it: longer than proxy and replica take to load one after the other, on a busy machine."""
    probe_seconds: float = Field(default=2, gt=0)
    """Pause between health probes of a model's stages."""
    drain_seconds: float = Field(default=30, ge=0)
    """How long requests in flight may go on after a signal to stop."""
