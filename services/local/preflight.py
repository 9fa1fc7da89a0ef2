"""What `up` makes sure of before it starts anything; each failure is one sentence."""

import importlib.util
import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kandinsky.catalog import hub
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogEntry, CatalogError, HubCheckpoint, SharedStage
from kandinsky.catalog.family import Stage
from kandinsky.catalog.hub import HubError
from kandinsky.cli import checkpoint_files
from kandinsky.cli.checkpoint_files import CheckpointFault
from services.local import memory

EXTRAS = ("ray", "torch", "diffusers", "transformers", "grpc_health", "structlog")
"""A module of every package that the stages and the gateway need beyond the client."""

GIB = 2**30
LISTENING_PORTS = range(20_000, 30_000)
"""Between those of Ray's workers and those that Linux hands out by default."""


class PreflightError(RuntimeError):
    """A reason not to start; the message is one sentence for the user."""


def check_extras(modules: Iterable[str] = EXTRAS) -> None:
    """Checks that what serves is installed, without importing it.

    Raises:
        PreflightError: it names the command that installs what is missing.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise PreflightError(
            f"{', '.join(missing)} not installed; run pip install 'kandinsky-serve[gateway,serve]'"
        )


@dataclass(frozen=True)
class Plan:
    """What is to run."""

    models: tuple[CatalogEntry, ...]
    stages: tuple[tuple[CatalogEntry, Stage], ...]
    """Each stage once, with the model that runs it."""

    @property
    def owners(self) -> tuple[CatalogEntry, ...]:
        """The models that run a stage, each once."""
        return tuple({owner.name: owner for owner, _ in self.stages}.values())


def plan(models: Sequence[str], folders: Sequence[Path]) -> Plan:
    """Finds the models and the stages that they need, each with whole checkpoints.

    Raises:
        PreflightError: the catalog cannot be read, lacks a model, or a checkpoint is not whole.
    """
    try:
        catalog = Catalog.load(folders)
        entries = tuple(catalog[name] for name in dict.fromkeys(models))
        stages = {
            entry.application(stage): (
                catalog[home.model] if isinstance(home, SharedStage) else entry,
                stage,
            )
            for entry in entries
            for stage, home in entry.stages.items()
        }
        for owner, stage in stages.values():
            checkpoint_files.check(owner, stage)
        hub.check(_of_hub(stages.values()))
    except (CatalogError, CheckpointFault, HubError) as error:
        raise PreflightError(str(error)) from error
    return Plan(entries, tuple(stages.values()))


def _of_hub(stages: Iterable[tuple[CatalogEntry, Stage]]) -> Mapping[HubCheckpoint, set[str]]:
    """What stages load from the hub: subfolders, by the checkpoint."""
    wanted: dict[HubCheckpoint, set[str]] = {}
    for entry, stage in stages:
        parts = {role.name: role.parts for role in entry.spec.stage_roles(stage)}
        for role, checkpoint in entry.checkpoints(stage).items():
            if isinstance(checkpoint, HubCheckpoint):
                wanted.setdefault(checkpoint, set()).update(parts[role])
    return wanted


def free_port() -> int:
    """A TCP port of this machine that nobody listens on, nor is handed one who asks for any.

    Raises:
        OSError: there is none.
    """
    for port in random.sample(LISTENING_PORTS, len(LISTENING_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {LISTENING_PORTS[0]} to {LISTENING_PORTS[-1]}")


def check_port(host: str, port: int) -> int:
    """Checks that the gateway can listen there; gives the port, a free one for 0.

    Raises:
        PreflightError: somebody else does, or the host is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port or free_port(), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or "no such address"
        raise PreflightError(f"cannot listen on {host}:{port}: {reason.lower()}") from error


def check_memory(plan: Plan, replicas: Mapping[Stage, int], available: int) -> None:
    """Checks that the replicas' weights fit.

    Args:
        plan: with whole checkpoints.
        replicas: of each stage, 1 where not named.
        available: bytes.

    Raises:
        PreflightError: they do not.
    """
    needed = memory.bytes_needed(plan.stages, replicas)
    if needed > available:
        raise PreflightError(
            f"the stages take {needed / GIB:.1f} GiB of memory and {available / GIB:.1f} GiB "
            "are free; serve fewer models or replicas"
        )
