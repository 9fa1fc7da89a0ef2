"""Ray and Serve in a process of its own, with what a benchmark asks there.

Run by `cluster` as `python -m benchmarks.cluster JSON`. Sides that stand beside each other share
its proxy, its controller and what they cost while nothing is asked.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.child import child, wait_for_the_end
from benchmarks.setup import Setup

SERVICER = "kandinsky.v1.generation_pb2_grpc.add_GenerationServiceServicer_to_server"


@contextmanager
def cluster(
    builder: str,
    applications: Mapping[str, Mapping[str, Any]],
    setup: Setup | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> Iterator[list[str]]:
    """Serves until the block ends; gives HOST:PORT of Serve's gRPC proxy, and of the gateway.

    Args:
        builder: MODULE:FUNCTION, which makes an application of its arguments.
        applications: the arguments, JSON-able, by the application's name.
        setup: of this system, which then runs there too, as `kandinsky up` runs it.
        runtime: its runtime options by model and stage, as tuned.

    Raises:
        ServerError: it did not start or did not end.
    """
    asked: dict[str, Any] = {"builder": builder, "applications": applications}
    if setup is not None:
        folders = list(map(str, setup.folders))
        asked |= {"model": setup.entry.name, "catalog": folders}
        asked |= {"decoders": setup.decoders, "runtime": runtime or {}}
    with child("benchmarks.cluster", json.dumps(asked)) as addresses:
        yield addresses.split()


def main(asked: Mapping[str, Any]) -> None:
    """Starts everything, prints the addresses, waits for the end."""
    from services.local import ray_environment

    ray_environment.apply()
    from ray import serve

    from kandinsky.catalog.catalog import Catalog
    from kandinsky.catalog.family import Stage
    from services.local.applications import SERVICERS
    from services.local.cluster import LocalCluster
    from services.local.preflight import free_port

    model = asked.get("model")
    folders = asked.get("catalog", [])
    entries = [Catalog.load(folders)[model]] if model else []
    decoders = {Stage.DECODER: asked.get("decoders", 1)}
    with LocalCluster(
        entries,
        folders,
        replicas=decoders,
        runtime=asked.get("runtime"),
        servicers=[*SERVICERS, SERVICER],
    ) as running:
        module, _, function = asked["builder"].partition(":")
        build = getattr(importlib.import_module(module), function)
        for name, arguments in asked["applications"].items():
            serve.run(build(arguments), name=name, route_prefix=f"/{name}")
        if not model:
            print(running.stages_address, flush=True)
            wait_for_the_end()
            return
        address = f"127.0.0.1:{free_port()}"
        with _gateway(address, running.stages_address, model, folders):
            print(running.stages_address, address, flush=True)
            wait_for_the_end()


@contextmanager
def _gateway(address: str, stages: str, model: str, folders: list[str]) -> Iterator[None]:
    from services.local import health

    command = [sys.executable, "-m", "gateway", "--listen", address, "--stages", stages]
    command += ["--model", model, "--die-with-parent", "--log-file", "/dev/null"]
    command += [word for folder in folders for word in ("--catalog", folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        if not health.wait_until_serving(address, model, lambda: process.poll() is None):
            raise RuntimeError("the gateway does not serve")
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
