"""One image, or one embedding, on its way through the engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from services.engine.events import Event, Finished
from services.engine.group import GroupKey
from services.engine.phase import Phase
from services.engine.snapshot import Snapshot
from services.engine.stats import JobStats


@dataclass(eq=False)
class Job:
    """Phases to pass, the generator that all randomness of the job comes from, and its state."""

    id: str
    phases: Sequence[Phase]
    generator: torch.Generator
    deadline: float = math.inf
    """Time on the engine's clock after which nobody waits for the result."""
    tenant: str = ""
    """On whose behalf; tenants are admitted in fair shares."""
    priority: int = 0
    """Higher goes before lower among a tenant's own."""
    progress_every: int | None = None
    """Steps between progress events; None for at most ten a second."""
    preview_every: int | None = None
    """Steps between previews; None for none."""
    resume_from: Snapshot | None = None
    """Where to go on, as its phase has accepted it; None begins at the start."""
    emit: Callable[[Event | Exception], None] = lambda event: None
    """Takes events, and at the end a result or an error; called on the engine's thread."""

    ended: bool = False
    """Whether the caller has been given a result or an error."""
    step: int = 0
    """Steps done in the phase at work."""
    stats: JobStats = field(default_factory=JobStats)
    arrived: float = 0.0
    """When the engine was asked, by its clock."""
    admitted: float = 0.0
    reported: float = 0.0
    """When the latest progress event was sent."""
    abandoned_at: float = math.inf
    """When the caller went away; set from any thread."""
    late_steps: int = 0
    """Steps whose forward ended after the caller had gone or the deadline had passed."""
    rows: int = field(init=False)
    """Rows that the job has in a forward, at most."""
    latent_area: int = field(init=False)
    """Latent area of the job's rows in a forward, at most."""
    cost: int = field(init=False)
    """Rows times latent area times steps, of all phases."""
    group: GroupKey = field(init=False)
    """Set when the job enters a phase."""
    _index: int = 0
    _latent: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        self.rows = max(phase.rows for phase in self.phases)
        self.latent_area = max(phase.rows * phase.latent_area for phase in self.phases)
        self.cost = sum(p.rows * p.latent_area * len(p.timesteps) for p in self.phases)

    @property
    def phase(self) -> Phase:
        """The phase at work."""
        return self.phases[self._index]

    @property
    def phases_left(self) -> Sequence[Phase]:
        """The phase at work and those after it."""
        return self.phases[self._index :]

    @property
    def timestep(self) -> torch.Tensor:
        """The scalar timestep of the next step."""
        return self.phase.timesteps[self.step]

    @property
    def abandoned(self) -> bool:
        """Whether the caller has gone."""
        return self.abandoned_at < math.inf

    @property
    def expires_at(self) -> float:
        """When the caller went away, or the deadline; the earlier of the two."""
        return min(self.abandoned_at, self.deadline)

    def abandon(self, now: float) -> None:
        """Record, from any thread, that the caller has gone."""
        self.abandoned_at = now

    def begin(self, now: float) -> None:
        """Enter the first phase."""
        self.admitted = now
        self.stats.queued = self.admitted - self.arrived
        self._enter(None)

    def record_forward(self, rows: int, shared: bool, now: float) -> None:
        """Count a forward that the job took part in.

        Args:
            rows: of all jobs in it.
            shared: whether another job had rows in it.
            now: when it ended.
        """
        self.stats.record_forward(rows, shared)
        self.late_steps += now >= self.expires_at

    def inputs(self) -> torch.Tensor:
        """What the network sees next: [1, ...]."""
        return self.phase.inputs(self._latent, self.step)

    def predict(self, output: torch.Tensor) -> torch.Tensor:
        """The prediction [1, ...] from the network's output [rows, ...] for this job."""
        return self.phase.predict(output, self._latent, self.step)

    @property
    def preview_is_due(self) -> bool:
        """Whether a preview belongs to the next step."""
        return self.preview_every is not None and (self.step + 1) % self.preview_every == 0

    def preview(self, prediction: torch.Tensor) -> torch.Tensor | None:
        """The image that the prediction leads to; None where the phase makes no previews."""
        return self.phase.preview(prediction, self._latent, self.step)

    def advance(self, prediction: torch.Tensor) -> None:
        """Take one step."""
        self._latent = self.phase.advance(prediction, self._latent, self.step, self.generator)
        self.step += 1

    def enter_next_phase(self, now: float) -> None:
        """After a phase's last step: enter the next phase, or end with the result."""
        if self._index + 1 < len(self.phases):
            self._index += 1
            self._enter(self._latent)
        else:
            self.stats.running = now - self.admitted
            self.end(Finished(self.phase.outputs(self._latent), self.stats))

    def end(self, outcome: Finished | Exception) -> None:
        """Give the caller a result or an error."""
        self.ended = True
        self.emit(outcome)

    def snapshot(self) -> Snapshot | None:
        """The state between two steps; None where beginning again loses nothing."""
        if not self.step:
            return None
        state = dict(self.phase.state())
        return Snapshot(self._index, self.step, self._latent, self.generator.get_state(), state)

    def _enter(self, value: torch.Tensor | None) -> None:
        self.step = 0
        self._latent = self.phase.begin(value, self.generator)
        if self.resume_from is not None and self.resume_from.phase == self._index:
            self._restore(self.resume_from)
        self.group = GroupKey.of(self.phase, self.inputs())

    def _restore(self, snapshot: Snapshot) -> None:
        self.generator.set_state(snapshot.generator_state)
        self.phase.restore(snapshot.state)
        self.step = snapshot.step
        self._latent = snapshot.latent.to(self._latent)
