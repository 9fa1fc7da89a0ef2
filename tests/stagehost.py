"""The three stage services of a model behind a plain gRPC server, addressed as Serve's proxy is.

Real services, real engine, real wire format; only Ray is left out, so that a test can look at
the engine's counters.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from kandinsky.catalog.entry import StageCheckpoints
from kandinsky.catalog.family import Stage
from kandinsky.wire.channels import OPTIONS
from services.decoder.families import FAMILIES as DECODERS
from services.decoder.service import DecoderService
from services.encoders.families import FAMILIES as ENCODERS
from services.encoders.service import EncoderService
from services.loading import families
from services.prior.families import FAMILIES as PRIORS
from services.prior.service import PriorService
from services.transport.servicers import add_decoder, add_encoders, add_prior
from services.transport.settings import StageSettings
from tests.heldbatcher import HeldBatcher


@dataclass
class StageHost:
    """Where the stages listen, and the engines of each replica."""

    address: str
    priors: list[HeldBatcher]
    """None where the model has no prior."""
    decoders: list[HeldBatcher]
    router: "_Router"

    @property
    def prior(self) -> HeldBatcher:
        """The first replica's."""
        return self.priors[0]

    @property
    def decoder(self) -> HeldBatcher:
        """The first replica's."""
        return self.decoders[0]


class _Router:
    """Hands each call to the application that its metadata names, as Serve's proxy does."""

    def __init__(self, applications: dict[str, list[Any]]) -> None:
        self._applications = applications
        self.replica = 0
        """The one that calls are handed to."""

    def _application(self, context: Any) -> Any:
        return self._applications[dict(context.invocation_metadata())["application"]][self.replica]

    async def EncodeText(self, request: Any, context: Any) -> Any:
        return await self._application(context).EncodeText(request, context)

    async def EncodeImage(self, request: Any, context: Any) -> Any:
        return await self._application(context).EncodeImage(request, context)

    async def CheckAdapters(self, request: Any, context: Any) -> Any:
        return await self._application(context).CheckAdapters(request, context)

    async def EncodeLatents(self, request: Any, context: Any) -> Any:
        return await self._application(context).EncodeLatents(request, context)

    async def DecodeLatents(self, request: Any, context: Any) -> Any:
        return await self._application(context).DecodeLatents(request, context)

    async def GetEngineStats(self, request: Any, context: Any) -> Any:
        return await self._application(context).GetEngineStats(request, context)

    async def SampleEmbedding(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self._application(context).SampleEmbedding(request, context):
            yield event

    async def Decode(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self._application(context).Decode(request, context):
            yield event


@asynccontextmanager
async def host_stages(
    model: str,
    catalog: Path,
    *sharing: str,
    engine: Mapping[str, int] | None = None,
    runtime: Mapping[Stage, Mapping[str, Any]] | None = None,
    replicas: int = 1,
) -> AsyncIterator[StageHost]:
    """Loads a model's stages into this process and serves them on a free port.

    Args:
        model: runs every stage itself.
        catalog: folder of its entry.
        sharing: models that share its encoders and prior; the last one's decoder engines are the
            host's.
        engine: limits of the engines.
        runtime: runtime options of each stage, the defaults where not named.
        replicas: of each stage; the first one is asked until the host's router says otherwise.
    """
    applications: dict[str, list[Any]] = {}
    engines: dict[Stage, list[HeldBatcher]] = {}
    started: list[HeldBatcher] = []
    for name in (model, *sharing):
        arguments = {"model": name, "catalog": [str(catalog)], "engine": engine or {}}
        for stage, home in StageSettings.parse(arguments).entry.stages.items():
            if isinstance(home, StageCheckpoints):
                options = (runtime or {}).get(stage, {})
                settings = StageSettings.parse({**arguments, "runtime": options})
                batchers = [
                    HeldBatcher(settings.engine, f"{name}-{stage}-{k}") for k in range(replicas)
                ]
                engines[stage] = batchers
                started += batchers
                applications[settings.entry.application(stage)] = [
                    _service(settings, stage, batcher) for batcher in batchers
                ]
    router = _Router(applications)
    server = grpc.aio.server(options=OPTIONS)
    for add in (add_encoders, add_prior, add_decoder):
        add(router, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        address = f"127.0.0.1:{port}"
        yield StageHost(address, engines.get(Stage.PRIOR, []), engines[Stage.DECODER], router)
    finally:
        await server.stop(grace=None)
        for batcher in started:
            batcher.close()


def _service(settings: StageSettings, stage: Stage, batcher: HeldBatcher) -> Any:
    family = load_family(settings, stage)
    if stage is Stage.ENCODERS:
        return EncoderService(family, settings.engine.max_queue)
    return {Stage.PRIOR: PriorService, Stage.DECODER: DecoderService}[stage](family, batcher)


def load_family(settings: StageSettings, stage: Stage) -> Any:
    """What a stage's app builds of its settings: the family's part, with its checkpoints loaded."""
    registry = {Stage.ENCODERS: ENCODERS, Stage.PRIOR: PRIORS, Stage.DECODER: DECODERS}[stage]
    entry = settings.entry
    return families.load(registry, entry.family)(settings.loaders(stage), entry)
