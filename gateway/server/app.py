"""The gateway process: configuration enters here, once, and everything behind it is given."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import grpc.aio
import structlog
import typer
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.image_work import ImageCodecs
from gateway.inputs import REQUEST_PIXELS
from gateway.server.admission import Admission
from gateway.server.call import Call
from gateway.server.codec_pool import ImageCodecPool
from gateway.server.endpoint import Endpoint
from gateway.server.health import ModelHealth
from gateway.server.logs import log_json
from gateway.server.messages import MessageLimits, Messages
from gateway.server.pixel_budget import PixelBudget
from gateway.server.service import GenerationService, StageAccess
from gateway.stages.stages import Stages, stage_channel
from kandinsky.catalog.catalog import Catalog, CatalogError
from kandinsky.v1 import generation_pb2
from kandinsky.wire.channels import MESSAGE_BYTES, OPTIONS

SERVICE = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
HEALTH = Call("health", arrived=0)
LAST_STATUS_SECONDS = 1.0
"""How long the end of the last request may take to reach its caller."""
KEEPALIVE = [("grpc.keepalive_time_ms", 60_000), ("grpc.keepalive_timeout_ms", 20_000)]
"""Ends connections whose far side is gone without a word, and with them what they were sent."""

log = structlog.get_logger()


class GatewayConfig(BaseModel):
    """Where the gateway listens, whom it asks, what it serves, and how much at once."""

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
    OVERLOADED. One tenant gets three quarters, of several each less, so that some are left."""
    max_jobs: int = Field(default=64, ge=1)
    """Stage jobs that one request has open at once."""
    request_bytes: int = Field(default=512 * 2**20, ge=2 * MESSAGE_BYTES)
    """Bytes of encoded requests at work; what goes beyond is refused with OVERLOADED. One tenant
    gets three quarters."""
    read_seconds: float = Field(default=60, gt=0)
    """How long a request may take to arrive."""
    write_seconds: float = Field(default=30, gt=0)
    """How long a message of an answer may wait for its reader; one second more for each 256 KiB
    of it. Then the request ends."""
    default_deadline_seconds: float = Field(default=3600, gt=0)
    """How long a request may take whose caller gave no deadline."""
    picture_threads: int = Field(default=2, ge=1)
    """Threads that read and make PNG, JPEG and WebP files; decoding leaves one to other work."""
    input_pixels: int = Field(default=2 * REQUEST_PIXELS, ge=2 * REQUEST_PIXELS)
    """Pixels of input images that requests hold decoded at once, about 16 bytes of memory each. One
    tenant gets half; requests that find no room wait their turn."""
    input_wait_seconds: float = Field(default=10, gt=0)
    """How long a request waits for that room; then it is refused with OVERLOADED."""
    attempt_seconds: float = Field(default=300, gt=0)
    """How long a stage may stay silent, and a broken call without a replica that takes it: longer
    than proxy and replica take to load one after the other, on a busy machine."""
    probe_seconds: float = Field(default=2, gt=0)
    """Pause between health probes of a model's stages."""
    drain_seconds: float = Field(default=30, ge=0)
    """How long requests in flight may go on after a signal to stop."""


class Gateway:
    """A server that is not started yet.

    Raises:
        CatalogError: a model is not in the catalog, or the catalog cannot be read.
    """

    def __init__(self, config: GatewayConfig) -> None:
        catalog = Catalog.load(config.catalog)
        models = {name: catalog[name] for name in config.models}
        self._config = config
        self.port = 0
        """Where it listens, once it is started."""
        self._channel = stage_channel(config.stages)
        self._codecs = ImageCodecPool(config.picture_threads)
        pixels = PixelBudget(config.input_pixels, config.input_wait_seconds)
        self._admission = Admission(config.max_requests, config.default_deadline_seconds)
        access = StageAccess(self._channel, config.max_jobs, config.attempt_seconds)
        servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._health = ModelHealth(
            servicer,
            SERVICE.full_name,
            {
                name: Stages(
                    self._channel,
                    entry,
                    HEALTH,
                    access.quarantine,
                    attempt_seconds=config.probe_seconds,
                )
                for name, entry in models.items()
            },
            config.probe_seconds,
        )
        # Without the last option a second server shares the port in silence.
        self._server = grpc.aio.server(options=[*OPTIONS, *KEEPALIVE, ("grpc.so_reuseport", 0)])
        service = GenerationService(models, access, ImageCodecs(self._codecs, pixels))
        messages = Messages(
            MessageLimits(config.request_bytes, config.read_seconds, config.write_seconds)
        )
        Endpoint(self._admission, messages).register(SERVICE, service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        names = [SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Listens and serves; the port.

        Raises:
            OSError: the address is taken or is not this machine's.
        """
        _check_free(self._config.listen)
        try:
            self.port = self._server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            raise OSError(f"{self._config.listen} cannot be listened on") from error
        await self._server.start()
        await self._health.start()
        log.info(
            "listening", listen=self._config.listen, port=self.port, models=self._config.models
        )
        return self.port

    async def stop(self) -> None:
        """Refuses new requests, waits for those in flight as long as configured, and ends."""
        await self._health.stop()
        all_ended = await self._admission.drain(self._config.drain_seconds)
        log.info("drained", all_ended=all_ended)
        await self._server.stop(LAST_STATUS_SECONDS)
        await self._channel.close(None)
        self._codecs.close()


async def serve(config: GatewayConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway = Gateway(config)
    await gateway.start()
    gc.freeze()  # what is there now stays; going through it would hold up every request
    await stopped.wait()
    await gateway.stop()


def _check_free(listen: str) -> None:
    # gRPC would say so too, but with lines of its own on stderr.
    host, _, port = listen.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        raise OSError(f"{listen} cannot be listened on: {error}") from error


def _die_with_parent() -> None:
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM)


DEFAULT = GatewayConfig()


def run(
    listen: Annotated[str, typer.Option(help="host:port to serve on.")] = DEFAULT.listen,
    stages: Annotated[str, typer.Option(help="host:port of the stages.")] = DEFAULT.stages,
    model: Annotated[list[str] | None, typer.Option(help="A model to serve; repeat.")] = None,
    catalog: Annotated[list[Path] | None, typer.Option(help="Folder of entries; repeat.")] = None,
    max_requests: Annotated[int, typer.Option()] = DEFAULT.max_requests,
    max_jobs: Annotated[int, typer.Option()] = DEFAULT.max_jobs,
    request_bytes: Annotated[int, typer.Option()] = DEFAULT.request_bytes,
    read_seconds: Annotated[float, typer.Option()] = DEFAULT.read_seconds,
    write_seconds: Annotated[float, typer.Option()] = DEFAULT.write_seconds,
    default_deadline_seconds: Annotated[float, typer.Option()] = DEFAULT.default_deadline_seconds,
    picture_threads: Annotated[int, typer.Option()] = DEFAULT.picture_threads,
    input_pixels: Annotated[int, typer.Option()] = DEFAULT.input_pixels,
    input_wait_seconds: Annotated[float, typer.Option()] = DEFAULT.input_wait_seconds,
    attempt_seconds: Annotated[float, typer.Option()] = DEFAULT.attempt_seconds,
    probe_seconds: Annotated[float, typer.Option()] = DEFAULT.probe_seconds,
    drain_seconds: Annotated[float, typer.Option()] = DEFAULT.drain_seconds,
    log_file: Annotated[Path | None, typer.Option(help="Log here, not to stderr.")] = None,
    die_with_parent: Annotated[bool, typer.Option(help="Drain when the parent ends.")] = False,
) -> None:
    """Serve the public API over the stages."""
    if die_with_parent:
        _die_with_parent()
    log_json(log_file)
    try:
        config = GatewayConfig(
            listen=listen,
            stages=stages,
            models=tuple(model or DEFAULT.models),
            catalog=tuple(catalog or ()),
            max_requests=max_requests,
            max_jobs=max_jobs,
            request_bytes=request_bytes,
            read_seconds=read_seconds,
            write_seconds=write_seconds,
            default_deadline_seconds=default_deadline_seconds,
            picture_threads=picture_threads,
            input_pixels=input_pixels,
            input_wait_seconds=input_wait_seconds,
            attempt_seconds=attempt_seconds,
            probe_seconds=probe_seconds,
            drain_seconds=drain_seconds,
        )
        asyncio.run(serve(config))
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (CatalogError, OSError) as error:
        _fail(str(error))


def _fail(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(1)
