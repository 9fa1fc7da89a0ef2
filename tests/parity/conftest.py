"""The whole chain on tiny random checkpoints: client stub, gateway, wire, stages, engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from gateway.server.app import Gateway
from gateway.server.config import GatewayConfig
from kandinsky.v1 import generation_pb2, generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS
from tests.stagehost import StageHost, host_stages


@dataclass
class Chain:
    """A running gateway with its stages."""

    stub: generation_pb2_grpc.GenerationServiceStub
    stages: StageHost
    folder: Path

    async def images(self, **request) -> list[generation_pb2.GeneratedImage]:
        """What TextToImageUnary answers; pixels come as tensors."""
        return await self.ask("TextToImage", **request)

    async def ask(self, flow: str, **request) -> list[generation_pb2.GeneratedImage]:
        """What the unary twin of a flow answers; pixels come as tensors."""
        settings = {"output_format": generation_pb2.OUTPUT_FORMAT_PIXELS}
        settings.update(request.pop("settings", {}))
        message = getattr(generation_pb2, f"{flow}Request")(
            settings=generation_pb2.GenerationSettings(**settings),
            **{"model": "tiny", **request},
        )
        return list((await getattr(self.stub, f"{flow}Unary")(message)).images)


def pixels(image: generation_pb2.GeneratedImage) -> np.ndarray:
    """int [H, W, 3], ready to be subtracted."""
    return np.frombuffer(image.tensor.data, np.uint8).reshape(image.tensor.shape).astype(int)


@asynccontextmanager
async def running_chain(folder: Path, *sharing: str, replicas: int = 1) -> AsyncIterator[Chain]:
    """The model `tiny`, and models that share its encoders and prior."""
    async with host_stages("tiny", folder, *sharing, replicas=replicas) as stages:
        config = GatewayConfig(
            listen="127.0.0.1:0",
            stages=stages.address,
            models=("tiny", *sharing),
            catalog=(folder,),
        )
        gateway = Gateway(config)
        port = await gateway.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                yield Chain(generation_pb2_grpc.GenerationServiceStub(channel), stages, folder)
        finally:
            await gateway.stop()


@pytest.fixture
async def chain(tiny_checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(tiny_checkpoint) as running:
        yield running
