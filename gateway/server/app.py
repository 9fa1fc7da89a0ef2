"""The gateway: builds the server and everything behind it from its configuration."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.server.adapter_service import AdapterService
from gateway.server.admission import Admission
from gateway.server.call import Call
from gateway.server.codec_pool import ImageCodecPool
from gateway.server.config import GatewayConfig
from gateway.server.endpoint import Endpoint
from gateway.server.health import ModelHealth
from gateway.server.image_work import ImageCodecs
from gateway.server.messages import MessageLimits, Messages
from gateway.server.pixel_quota import PixelQuota
from gateway.server.service import GenerationService
from gateway.stages.stages import StageAccess, Stages, stage_channel
from kandinsky.catalog.catalog import Catalog
from kandinsky.v1 import adapters_pb2, generation_pb2
from kandinsky.wire.channels import OPTIONS

SERVICE = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
ADAPTERS = adapters_pb2.DESCRIPTOR.services_by_name["AdapterService"]
HEALTH = Call("health", arrived=0)
LAST_STATUS_SECONDS = 1.0
"""How long the end of the last request may take to reach its caller."""
KEEPALIVE = [("grpc.keepalive_time_ms", 60_000), ("grpc.keepalive_timeout_ms", 20_000)]
"""Closes connections whose far side is gone without closing them, and frees what they hold."""

log = structlog.get_logger()


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
        self._codecs = ImageCodecPool(config.codec_threads)
        pixels = PixelQuota(config.input_pixels, config.input_wait_seconds)
        self._admission = Admission(config.max_requests, config.default_deadline_seconds)
        access = StageAccess(self._channel, config.max_jobs, config.patience_seconds)
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
                    patience_seconds=config.probe_seconds,
                )
                for name, entry in models.items()
            },
            config.probe_seconds,
        )
        # Without the last option a second server shares the port without an error.
        self._server = grpc.aio.server(options=[*OPTIONS, *KEEPALIVE, ("grpc.so_reuseport", 0)])
        service = GenerationService(models, access, ImageCodecs(self._codecs, pixels))
        messages = Messages(
            MessageLimits(config.request_bytes, config.read_seconds, config.write_seconds)
        )
        endpoint = Endpoint(self._admission, messages)
        endpoint.register(SERVICE, service, self._server)
        endpoint.register(ADAPTERS, AdapterService(models, access), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        names = [
            SERVICE.full_name,
            ADAPTERS.full_name,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        ]
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> int:
        """Listen and serve; return the port.

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
        """Refuse new requests, wait for those in flight as long as configured, and stop."""
        await self._health.stop()
        all_ended = await self._admission.drain(self._config.drain_seconds)
        log.info("drained", all_ended=all_ended)
        await self._server.stop(LAST_STATUS_SECONDS)
        await self._channel.close(None)
        self._codecs.close()


async def serve(config: GatewayConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway = Gateway(config)
    await gateway.start()
    gc.freeze()  # what is allocated now stays; collecting it again would delay every request
    await stopped.wait()
    await gateway.stop()


def _check_free(listen: str) -> None:
    # gRPC reports it too, but with lines of its own on stderr.
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
