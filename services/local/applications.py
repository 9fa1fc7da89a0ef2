"""The Serve applications of some models: one for each stage that they run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kandinsky.catalog.entry import CatalogEntry, SharedStage
from kandinsky.catalog.family import Stage

DEPLOYMENTS: Mapping[Stage, str] = {
    Stage.ENCODERS: "Encoders",
    Stage.PRIOR: "Prior",
    Stage.DECODER: "Decoder",
}
"""The deployment class in each stage's app."""

SERVICERS = [
    "services.transport.servicers.add_encoders",
    "services.transport.servicers.add_prior",
    "services.transport.servicers.add_decoder",
]


@dataclass(frozen=True)
class Applications:
    """What to run; a stage that several models share is run once, under its owner's name."""

    entries: Sequence[CatalogEntry]
    catalog: Sequence[str]
    """Absolute folders, beside the built-in one, that the entries came from."""
    replicas: Mapping[Stage, int]
    """Of each stage, 1 where not named."""
    threads: int
    """CPU threads of each replica's networks."""
    engine: Mapping[str, Any]
    """Limits of the stages' engines, the fields of EngineLimits."""
    runtime: Mapping[str, Mapping[Stage, Mapping[str, Any]]] = field(default_factory=dict)
    """How networks run, by model and stage, where that was tuned: the fields of RuntimeOptions."""
    scaled: Mapping[str, int] = field(default_factory=dict)
    """Replicas by application; they win over `replicas`."""

    def config(self) -> list[dict[str, Any]]:
        """The `applications` of a Serve configuration."""
        found: dict[str, dict[str, Any]] = {}
        for name, stage, model in self._owned():
            found[name] = self._application(name, stage, model)
        return list(found.values())

    def replica_counts(self) -> dict[str, int]:
        """Replicas by application."""
        return {name: self._count(name, stage) for name, stage, _ in self._owned()}

    def _owned(self) -> Iterable[tuple[str, Stage, str]]:
        """Application, stage, and the model that owns it."""
        for entry in self.entries:
            for stage, home in entry.stages.items():
                owner = home.model if isinstance(home, SharedStage) else entry.name
                yield entry.application(stage), stage, owner

    def _count(self, name: str, stage: Stage) -> int:
        return self.scaled.get(name, self.replicas.get(stage, 1))

    def _application(self, name: str, stage: Stage, model: str) -> dict[str, Any]:
        return {
            "name": name,
            "route_prefix": f"/{name}",  # without one the proxy does not know the application
            "import_path": f"services.{stage.value}.app:build",
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
            "args": {
                "model": model,
                "catalog": list(self.catalog),
                "threads": self.threads,
                "engine": dict(self.engine),
                "runtime": dict(self.runtime.get(model, {}).get(stage, {})),
            },
            "deployments": [
                {
                    "name": DEPLOYMENTS[stage],
                    "num_replicas": self._count(name, stage),
                    # One machine runs them all: a reservation would only keep one from starting.
                    "ray_actor_options": {"num_cpus": 0},
                }
            ],
        }
