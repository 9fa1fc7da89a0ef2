"""The stages of some models on this machine: Ray and Serve, started inside the calling process.

Ray's processes die with the process that called `start`, however it ends: the raylet by the
kernel's parent-death signal, its workers because they lose the raylet, and the rest by
`services.local_guard`.
"""

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from services.ray_environment import ENVIRONMENT

os.environ.update({**ENVIRONMENT, **os.environ})

import psutil
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    ReplicaState,
    ServeDeploySchema,
)

from kandinsky.catalog.catalog import CatalogEntry, SharedStage, Stage
from services.local_failure import failure

DEPLOYMENTS: Mapping[Stage, str] = {
    Stage.ENCODERS: "Encoders",
    Stage.PRIOR: "Prior",
    Stage.DECODER: "Decoder",
}
"""The deployment class in each stage's app."""

SERVICERS = [
    "services.servicers.add_encoders",
    "services.servicers.add_prior",
    "services.servicers.add_decoder",
]

LOGGING = {"log_level": "WARNING", "encoding": "JSON"}
"""Of Serve's own processes and of all replicas."""

HOST = "127.0.0.1"
LISTENING_PORTS = range(20_000, 30_000)
"""Between those of Ray's workers and those that Linux hands out by default."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Ray's least is 75 MiB; nothing of ours passes through it."""
EXIT_SECONDS = 10
"""How long Ray's processes may take to end before they are killed."""


class StageFailed(RuntimeError):
    """A stage that cannot start; the message is one sentence that names it and says why."""


class LocalCluster:
    """Ray, Serve and the stages of some models; a context manager.

    Args:
        entries: the models. A stage that another model runs is started once, under its owner's
            name.
        catalog_folders: the folders, beside the built-in one, that the entries came from.
        port: of the gRPC proxy; 0 takes a free one.
        replicas: of each stage, 1 where not named.
        threads: CPU threads of each replica's networks.
        engine: limits of the stages' engines, the fields of EngineLimits.
    """

    def __init__(
        self,
        entries: Iterable[CatalogEntry],
        catalog_folders: Iterable[Path] = (),
        *,
        port: int = 0,
        replicas: Mapping[Stage, int] | None = None,
        threads: int = 1,
        engine: Mapping[str, Any] | None = None,
    ) -> None:
        self._entries = list(entries)
        self._catalog = [str(Path(folder).absolute()) for folder in catalog_folders]
        self._replicas = dict(replicas or {})
        self._scaled: dict[str, int] = {}
        """Replicas by application, where it was scaled."""
        self._threads = threads
        self._engine = dict(engine or {})
        self._port = port
        self._processes: list[psutil.Process] = []
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def stages_address(self) -> str:
        """HOST:PORT of the gRPC proxy, from `start` on."""
        return f"{HOST}:{self._port}"

    def start(self) -> None:
        """Starts everything and returns when every stage takes requests.

        Raises:
            StageFailed: a stage cannot load; call `stop` then too.
        """
        self._port = self._port or free_port()
        self._guard = _start_guard()
        before = set(_children())
        try:
            start_serve(self._port, SERVICERS)
            _get_global_client().deploy_apps(ServeDeploySchema.model_validate(self._config()))
            self._wait_until_running()
        finally:
            self._processes = [child for child in _children() if child not in before]

    def scale(self, application: str, replicas: int) -> None:
        """Runs so many replicas of one application from now on; returns when they are there.

        A replica that goes away hands its jobs on at once; none is lost.

        Raises:
            StageFailed: a new one cannot load.
        """
        self._scaled[application] = replicas
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(self._config()))
        self._wait_until_running()

    def stop(self) -> None:
        """Ends everything; on return no process of it is left. May be called twice."""
        if ray.is_initialized():
            self._processes = list({*self._processes, *_descendants(self._processes)})
            ray.shutdown()  # takes Serve with it
        _, alive = psutil.wait_procs(self._processes, timeout=EXIT_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=EXIT_SECONDS)
        self._processes = []
        if self._guard is not None:
            self._guard.communicate()  # closes its standard input
            self._guard = None

    def __enter__(self) -> "LocalCluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _config(self) -> dict[str, Any]:
        applications: dict[str, dict[str, Any]] = {}
        for entry in self._entries:
            for stage, home in entry.stages.items():
                owner = home.model if isinstance(home, SharedStage) else entry.name
                name = entry.application(stage)
                applications[name] = self._application(name, stage, owner)
        return {"applications": list(applications.values()), "logging_config": LOGGING}

    def _application(self, name: str, stage: Stage, model: str) -> dict[str, Any]:
        return {
            "name": name,
            "route_prefix": f"/{name}",  # without one the proxy does not know the application
            "import_path": f"services.{stage.value}.app:build",
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(self._threads)}},
            "args": {
                "model": model,
                "catalog": self._catalog,
                "threads": self._threads,
                "engine": self._engine,
            },
            "deployments": [
                {
                    "name": DEPLOYMENTS[stage],
                    "num_replicas": self._scaled.get(name, self._replicas.get(stage, 1)),
                    # One machine runs them all: a reservation would only keep one from starting.
                    "ray_actor_options": {"num_cpus": 0},
                }
            ],
        }

    def _wait_until_running(self) -> None:
        wanted = {
            application["name"]: application["deployments"][0]["num_replicas"]
            for application in self._config()["applications"]
        }
        while True:
            applications = serve.status().applications
            for name, application in applications.items():
                reason = failure(application)
                if reason is not None:
                    raise StageFailed(f"{name} cannot start: {reason}")
            if all(_is_running(applications[name], count) for name, count in wanted.items()):
                return
            time.sleep(0.2)


def _is_running(application: ApplicationStatusOverview, replicas: int) -> bool:
    return application.status == ApplicationStatus.RUNNING and all(
        dict(deployment.replica_states) == {ReplicaState.RUNNING: replicas}
        for deployment in application.deployments.values()
    )


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


def _start_guard() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "services.local_guard", str(Path(ray.__file__).parent)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def free_port() -> int:
    """A TCP port that nothing listens on, and that the system gives to nobody who asks for any.

    Raises:
        OSError: there is none.
    """
    for port in random.sample(LISTENING_PORTS, len(LISTENING_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {LISTENING_PORTS[0]} to {LISTENING_PORTS[-1]}")


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in processes:
        try:
            found.extend(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found
