"""One image, or one embedding, on its way through the engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from services.engine.phase import Phase
from services.engine.snapshot import Snapshot


@dataclass(frozen=True)
class Queued:
    """The job waits."""

    position: int
    """Jobs that are let in before it."""
    wait: float | None = None
    """Estimated seconds until it is let in; None before anything was measured."""


@dataclass(frozen=True)
class Progress:
    """The job took a step."""

    phase: str
    step: int
    steps: int
    remaining: float
    """Estimated seconds to the job's end, from measured step times."""


@dataclass(frozen=True)
class Preview:
    """The picture as it can be foreseen."""

    step: int
    """Steps done."""
    pixels: torch.Tensor
    """uint8 [h, w, 3]."""
    seconds: float
    """What making it cost."""


@dataclass
class Stats:
    """What a job cost, and with whom it shared."""

    queued: float = 0.0
    """Seconds from arrival to admission."""
    running: float = 0.0
    """Seconds from admission to the result."""
    forwards: int = 0
    shared_forwards: int = 0
    """Forwards in which another job had rows as well."""
    first_shared_forward: int = -1
    """Index within `forwards`; -1 if none."""
    last_shared_forward: int = -1
    peak_rows: int = 0
    """Most rows in a forward that the job took part in."""

    def note_forward(self, rows: int, shared: bool) -> None:
        """Counts a forward that the job took part in."""
        if shared:
            self.shared_forwards += 1
            self.last_shared_forward = self.forwards
            if self.first_shared_forward < 0:
                self.first_shared_forward = self.forwards
        self.forwards += 1
        self.peak_rows = max(self.peak_rows, rows)


@dataclass(frozen=True)
class Alive:
    """Nothing has happened for a while, but the engine is there: a step may take long."""


@dataclass(frozen=True)
class Finished:
    """The job's last phase ended with `value`."""

    value: torch.Tensor
    stats: Stats


Event = Queued | Progress | Preview | Snapshot | Alive | Finished
GroupKey = tuple[Any, ...]


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
    preview_every: int = 0
    """Steps between previews; 0 for none."""
    resume_from: Snapshot | None = None
    """Where to go on, as its phase has accepted it; None begins at the start."""
    emit: Callable[[Event | Exception], None] = lambda event: None
    """Takes events, and at the end a result or an error; called on the engine's thread."""

    ended: bool = False
    """Whether the caller has been given a result or an error."""
    step: int = 0
    """Steps done in the phase at work."""
    group: GroupKey = ()
    """Jobs with equal keys can share a forward: same network, same shapes and dtypes."""
    stats: Stats = field(default_factory=Stats)
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
    """Latent area that the job has in a forward, at most."""
    cost: int = field(init=False)
    """Rows times latent area times steps, of all phases."""
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
        """When the caller went away or stopped waiting; infinite or to come while it waits."""
        return min(self.abandoned_at, self.deadline)

    def abandon(self, now: float) -> None:
        """Tells, from any thread, that the caller has gone."""
        self.abandoned_at = now

    def begin(self, now: float) -> None:
        """Enters the first phase."""
        self.admitted = now
        self.stats.queued = self.admitted - self.arrived
        self._enter(None)

    def note_forward(self, rows: int, shared: bool, now: float) -> None:
        """Counts a forward that the job took part in.

        Args:
            rows: of all jobs in it.
            shared: whether another job had rows in it.
            now: when it ended.
        """
        self.stats.note_forward(rows, shared)
        self.late_steps += now >= self.expires_at

    def inputs(self) -> torch.Tensor:
        """What the network sees next: [1, ...]."""
        return self.phase.inputs(self._latent, self.step)

    @property
    def preview_is_due(self) -> bool:
        """Whether a preview belongs to the next step."""
        return bool(self.preview_every) and not (self.step + 1) % self.preview_every

    def preview(self, output: torch.Tensor) -> torch.Tensor | None:
        """What `advance` with this output is about to lead to; None where it cannot be seen."""
        return self.phase.preview(output, self._latent, self.step)

    def advance(self, output: torch.Tensor) -> None:
        """Takes one step with the network's output [rows, ...] for this job."""
        self._latent = self.phase.advance(output, self._latent, self.step, self.generator)
        self.step += 1

    def go_on(self, now: float) -> None:
        """After a phase's last step: enters the next one, or ends with the result."""
        self._index += 1
        if self._index < len(self.phases):
            self._enter(self._latent)
        else:
            self._index -= 1
            self.stats.running = now - self.admitted
            self.end(Finished(self._latent, self.stats))

    def end(self, outcome: "Finished | Exception") -> None:
        """Tells the caller how the job ended."""
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
        inputs = self.inputs()
        conditioning = tuple(
            (name, tensor.shape[1:], tensor.dtype)
            for name, tensor in sorted(self.phase.conditioning.items())
        )
        self.group = (id(self.phase.network), inputs.shape[1:], inputs.dtype, conditioning)

    def _restore(self, snapshot: Snapshot) -> None:
        self.generator.set_state(snapshot.generator_state)
        self.phase.restore(snapshot.state)
        self.step = snapshot.step
        self._latent = snapshot.latent.to(self._latent)
