"""The whole chain on tiny random checkpoints: client stub, gateway, wire, stages, engine."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.server.app import Gateway
from gateway.server.config import GatewayConfig
from kandinsky.catalog.family import Stage
from kandinsky.client import requests
from kandinsky.v1 import generation_pb2, generation_pb2_grpc
from kandinsky.wire.channels import OPTIONS
from tests.stagehost import StageHost, host_stages


@dataclass
class Chain:
    """A running gateway with its stages."""

    stub: generation_pb2_grpc.GenerationServiceStub
    stages: StageHost
    folder: Path
    address: str
    """Of the gateway."""

    async def ask(self, flow: str, *args, **options) -> list[generation_pb2.GeneratedImage]:
        """What GenerateImages answers to a flow of the SDK; pixels come as tensors.

        Args:
            flow: the name of its method, or `generate`.
            args: of the method.
            options: of the method.
        """
        request = flow_request(flow, *args, **options)
        return list((await self.stub.GenerateImages(request)).images)


def flow_request(flow: str, *args, **options) -> generation_pb2.GenerateRequest:
    """The request of a flow of the SDK, to the model `tiny`; its pixels come as tensors."""
    chosen = {"model": "tiny", "output_format": "pixels", **options}
    return getattr(requests, flow)(*args, **chosen)


def pixels(image: generation_pb2.GeneratedImage) -> np.ndarray:
    """int [H, W, 3], ready to be subtracted."""
    return np.frombuffer(image.tensor.data, np.uint8).reshape(image.tensor.shape).astype(int)


@asynccontextmanager
async def running_chain(
    folder: Path,
    *sharing: str,
    replicas: int = 1,
    runtime: Mapping[Stage, Mapping[str, Any]] | None = None,
) -> AsyncIterator[Chain]:
    """The model `tiny` under runtime options, and models that share its encoders and prior."""
    async with host_stages("tiny", folder, *sharing, replicas=replicas, runtime=runtime) as stages:
        config = GatewayConfig(
            listen="127.0.0.1:0",
            stages=stages.address,
            models=("tiny", *sharing),
            catalog=(folder,),
        )
        gateway = Gateway(config)
        port = await gateway.start()
        try:
            address = f"127.0.0.1:{port}"
            async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
                stub = generation_pb2_grpc.GenerationServiceStub(channel)
                yield Chain(stub, stages, folder, address)
        finally:
            await gateway.stop()


@pytest.fixture
async def chain(tiny_checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(tiny_checkpoint) as running:
        yield running
