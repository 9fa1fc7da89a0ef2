"""The stages of some models on this machine: Ray and Serve, started inside the calling process.

Ray's processes die with the process that called `start`, however it ends: the raylet by the
kernel's parent-death signal, its workers because they lose the raylet, and the rest by
`services.local.guard`. Call `services.local.ray_environment.apply` before this module is imported:
Ray reads its environment as it is imported.
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

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

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.local.applications import SERVICERS, Applications
from services.local.preflight import free_port
from services.local.ray_serve import HOST, LOGGING, failure, start_serve

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
        servicers: dotted names of the functions that add the proxy's services.
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
        runtime: Mapping[str, Mapping[Stage, Mapping[str, Any]]] | None = None,
        servicers: Sequence[str] = SERVICERS,
    ) -> None:
        self._applications = Applications(
            list(entries),
            [str(Path(folder).absolute()) for folder in catalog_folders],
            dict(replicas or {}),
            threads,
            dict(engine or {}),
            dict(runtime or {}),
        )
        self._port, self._servicers = port, servicers
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
            start_serve(self._port, self._servicers)
            self._deploy()
        finally:
            self._processes = [child for child in _children() if child not in before]

    def scale(self, application: str, replicas: int) -> None:
        """Runs so many replicas of one application from now on; returns when they are there.

        A replica that goes away hands its jobs on at once; none is lost.

        Raises:
            StageFailed: a new one cannot load.
        """
        scaled = {**self._applications.scaled, application: replicas}
        self._applications = replace(self._applications, scaled=scaled)
        self._deploy()

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

    def _deploy(self) -> None:
        config = {"applications": self._applications.config(), "logging_config": LOGGING}
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))
        counts = self._applications.replica_counts()
        while True:
            applications = serve.status().applications
            for name, application in applications.items():
                reason = failure(application)
                if reason is not None:
                    raise StageFailed(f"{name} cannot start: {reason}")
            if all(_is_running(applications[name], count) for name, count in counts.items()):
                return
            time.sleep(0.2)


def _is_running(application: ApplicationStatusOverview, replicas: int) -> bool:
    return application.status == ApplicationStatus.RUNNING and all(
        dict(deployment.replica_states) == {ReplicaState.RUNNING: replicas}
        for deployment in application.deployments.values()
    )


def _start_guard() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "services.local.guard", str(Path(ray.__file__).parent)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _children() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def _descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in processes:
        try:
            found.extend(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found
