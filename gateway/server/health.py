"""grpc.health.v1: one status for the server, one for its API, one for each model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from grpc_health.v1.health_pb2 import HealthCheckResponse

from gateway.stages.stages import Stages

log = structlog.get_logger()


class ModelHealth:
    """Keeps each model's status up to date: SERVING while all its stages answer.

    Args:
        servicer: the asyncio `HealthServicer`, which keeps the statuses and answers callers.
        service: full name of the API, SERVING from the start until the drain, as "" is.
        models: the stages to probe, by model name.
        every_seconds: pause between probes of one model.
    """

    def __init__(
        self,
        servicer: Any,
        service: str,
        models: Mapping[str, Stages],
        every_seconds: float,
    ) -> None:
        self._servicer = servicer
        self._service = service
        self._models = models
        self._every_seconds = every_seconds
        self._probes: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Set the first statuses and start to probe."""
        for name in ("", self._service):
            await self._servicer.set(name, HealthCheckResponse.SERVING)
        for name in self._models:
            await self._servicer.set(name, HealthCheckResponse.NOT_SERVING)
        self._probes = [
            asyncio.create_task(self._probe(name, stages)) for name, stages in self._models.items()
        ]

    async def stop(self) -> None:
        """Set every status to NOT_SERVING, for good."""
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await self._servicer.enter_graceful_shutdown()

    async def _probe(self, name: str, stages: Stages) -> None:
        was_alive = False
        while True:
            alive = await stages.alive()
            if alive != was_alive:
                log.info("model health", model=name, serving=alive)
                status = HealthCheckResponse.SERVING if alive else HealthCheckResponse.NOT_SERVING
                await self._servicer.set(name, status)
            was_alive = alive
            await asyncio.sleep(self._every_seconds)
