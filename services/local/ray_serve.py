"""Ray and Serve in this process, started quietly, and why an application does not start."""

import logging
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus

from services.local.preflight import free_port

HOST = "127.0.0.1"
LOGGING = {"log_level": "WARNING", "encoding": "JSON"}
"""Of Serve's own processes and of all replicas."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Ray's least is 75 MiB; nothing of ours passes through it."""


def start_serve(port: int, servicers: Sequence[str]) -> None:
    """Starts Ray, quietly and for this machine alone, and Serve with its gRPC proxy.

    Args:
        port: of the proxy.
        servicers: dotted names of the functions that add the proxy's services.
    """
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _own_signal_handlers():
        ray.init(
            address="local",
            num_cpus=1,  # as many workers are started before there is work for them
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=HOST,
        )
    serve.start(
        http_options={"host": HOST, "port": free_port()},
        grpc_options={"port": port, "grpc_servicer_functions": list(servicers)},
        logging_config=LOGGING,
    )


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Puts the process's signal handlers back where Ray has set its own, which print a stack."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def failure(application: Any) -> str | None:
    """Why an application has failed, or is failing again and again; None while it is well."""
    if application.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
        messages = [deployment.message for deployment in application.deployments.values()]
        return last_error("\n".join([application.message, *messages]))
    for deployment in application.deployments.values():
        if "failed to start" in deployment.message:
            return last_error(deployment.message)
    return None


def last_error(traceback: str) -> str:
    """The message of the last exception in a text with tracebacks; its last line if none is.

    Args:
        traceback: such as Serve's status messages hold, with Ray's own lines around it.
    """
    found = re.findall(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Failed)\b: *(.+)$", traceback, re.M)
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    return str(found[-1] if found else lines[-1] if lines else "it gave no reason").strip()
