"""One Ray cluster for the session: the stages of `shapes` and of the models beside it behind
Serve's proxy, a gateway process of its own, and a client."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kandinsky.catalog.catalog import Catalog
from kandinsky.client import Client

if TYPE_CHECKING:
    from services.local.cluster import LocalCluster

START_SECONDS = 120
MODELS = ("shapes", "shapes-depth", "shapes-sd-inpaint")


@dataclass
class System:
    """Where the running system listens."""

    gateway: str
    stages: str
    cluster: "LocalCluster"


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    from services.local import ray_environment

    ray_environment.apply()
    from services.local.cluster import LocalCluster
    from services.local.preflight import free_port

    with LocalCluster([Catalog.load()[name] for name in MODELS]) as cluster:
        address = f"127.0.0.1:{free_port()}"
        gateway = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway", "--die-with-parent"),
                *("--listen", address, "--stages", cluster.stages_address),
                *(word for name in MODELS for word in ("--model", name)),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            for name in MODELS:
                wait_until_serving(address, name)
            yield System(address, cluster.stages_address, cluster)
        finally:
            gateway.terminate()
            gateway.wait(60)


@pytest.fixture(scope="session")
def client(system: System) -> Iterator[Client]:
    with Client(system.gateway, timeout=120) as connected:
        yield connected


def wait_until_serving(address: str, model: str, seconds: float = START_SECONDS) -> None:
    """Follows the health service's own stream of changes."""
    deadline = time.monotonic() + seconds
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(seconds)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=model), timeout=deadline - time.monotonic()
        )
        for change in watch:
            if change.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return
