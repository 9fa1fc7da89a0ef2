"""Ray Serve with some applications behind its gRPC proxy, in a process of its own.

Run by `serving_apps` as `python -m benchmarks.serve_apps APPLICATIONS`.
"""

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.child import child, wait_for_the_end

SERVICERS = [
    f"kandinsky.v1.{name}_pb2_grpc.add_{service}ServiceServicer_to_server"
    for name, service in (
        ("encoders", "Encoder"),
        ("decoder", "Decoder"),
        ("generation", "Generation"),
    )
]


@contextmanager
def serving_apps(builder: str, applications: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Serves applications until the block ends; gives HOST:PORT of Serve's gRPC proxy.

    Args:
        builder: MODULE:FUNCTION, which makes an application of its arguments.
        applications: the arguments, JSON-able, by the application's name.

    Raises:
        ServerError: it did not start or did not end.
    """
    words = builder, json.dumps(applications)
    with child("benchmarks.serve_apps", *words) as address:
        yield address


def main(builder: str, applications: str) -> None:
    """Starts everything as `kandinsky up` does, prints the address, waits for the end."""
    from services.local import ray_environment

    ray_environment.apply()
    import ray
    from ray import serve

    from services.local.preflight import free_port
    from services.local.ray_serve import HOST, start_serve

    port = free_port()
    try:
        start_serve(port, SERVICERS)
        module, _, function = builder.partition(":")
        build = getattr(importlib.import_module(module), function)
        for name, arguments in json.loads(applications).items():
            serve.run(build(arguments), name=name, route_prefix=f"/{name}")
        print(f"{HOST}:{port}", flush=True)
        wait_for_the_end()
    finally:
        ray.shutdown()  # takes Serve with it


if __name__ == "__main__":
    main(*sys.argv[1:])
