"""One image, or one embedding, on its way through the engine."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from services.engine.phase import Phase

PROGRESS_INTERVAL = 0.1
"""Seconds between two progress events of a job, at least."""


@dataclass(frozen=True)
class Queued:
    """The job waits; `position` jobs are in front of it."""

    position: int


@dataclass(frozen=True)
class Progress:
    """The job took a step."""

    phase: str
    step: int
    steps: int
    remaining: float
    """Estimated seconds to the job's end, from its own steps so far."""


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


@dataclass(frozen=True)
class Finished:
    """The job's last phase ended with `value`."""

    value: torch.Tensor
    stats: Stats


Event = Queued | Progress | Finished
GroupKey = tuple[Any, ...]


@dataclass(eq=False)
class Job:
    """Phases to pass, the generator that all randomness of the job comes from, and its state."""

    id: str
    phases: Sequence[Phase]
    generator: torch.Generator
    deadline: float = math.inf
    """`time.monotonic()` after which nobody waits for the result."""
    emit: Callable[[Event | Exception], None] = lambda event: None
    """Takes events, and at the end a result or an error; called on the engine's thread."""
    progress_every: int | None = None
    """Steps between progress events; None for at most one every PROGRESS_INTERVAL."""

    abandoned: bool = False
    """Set, from any thread, when the caller has gone."""
    ended: bool = False
    """Whether the caller has been given a result or an error."""
    step: int = 0
    """Steps done in the phase at work."""
    group: GroupKey = ()
    """Jobs with equal keys can share a forward: same network, same shapes and dtypes."""
    stats: Stats = field(default_factory=Stats)
    _index: int = 0
    _latent: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    _arrived: float = field(default_factory=time.monotonic)
    _admitted: float = 0.0
    _reported: float = 0.0

    @property
    def phase(self) -> Phase:
        """The phase at work."""
        return self.phases[self._index]

    @property
    def rows(self) -> int:
        """Rows that the job has in a forward, at most."""
        return max(phase.rows for phase in self.phases)

    @property
    def pixels(self) -> int:
        """Latent pixels that the job has in a forward, at most."""
        return max(phase.rows * phase.pixels for phase in self.phases)

    @property
    def timestep(self) -> torch.Tensor:
        """The scalar timestep of the next step."""
        return self.phase.timesteps[self.step]

    def begin(self) -> None:
        """Enters the first phase."""
        self._admitted = time.monotonic()
        self.stats.queued = self._admitted - self._arrived
        self._enter(None)

    def inputs(self) -> torch.Tensor:
        """What the network sees next: [1, ...]."""
        return self.phase.inputs(self._latent, self.step)

    def advance(self, output: torch.Tensor) -> None:
        """Takes one step with the network's output [rows, ...] for this job."""
        phase = self.phase
        self._latent = phase.advance(output, self._latent, self.step, self.generator)
        self.step += 1
        self._report()
        if self.step < len(phase.timesteps):
            return
        self._index += 1
        if self._index < len(self.phases):
            self._enter(self._latent)
        else:
            self.stats.running = time.monotonic() - self._admitted
            self.end(Finished(self._latent, self.stats))

    def end(self, outcome: "Finished | Exception") -> None:
        """Tells the caller how the job ended."""
        self.ended = True
        self.emit(outcome)

    def note_forward(self, rows: int, shared: bool) -> None:
        """Counts a forward that the job takes part in."""
        stats = self.stats
        if shared:
            stats.shared_forwards += 1
            stats.last_shared_forward = stats.forwards
            if stats.first_shared_forward < 0:
                stats.first_shared_forward = stats.forwards
        stats.forwards += 1
        stats.peak_rows = max(stats.peak_rows, rows)

    def _enter(self, value: torch.Tensor | None) -> None:
        self.step = 0
        self._latent = self.phase.begin(value, self.generator)
        inputs = self.inputs()
        conditioning = tuple(
            (name, tensor.shape[1:], tensor.dtype)
            for name, tensor in sorted(self.phase.conditioning.items())
        )
        self.group = (id(self.phase.network), inputs.shape[1:], inputs.dtype, conditioning)

    def _report(self) -> None:
        now = time.monotonic()
        steps = len(self.phase.timesteps)
        if self.progress_every is None:
            due = now - self._reported >= PROGRESS_INTERVAL
        else:
            due = self.step % self.progress_every == 0
        if not due and self.step < steps:
            return
        self._reported = now
        later = self.phases[self._index + 1 :]
        left = steps - self.step + sum(len(phase.timesteps) for phase in later)
        seconds_a_step = (now - self._admitted) / self.stats.forwards
        self.emit(Progress(self.phase.name, self.step, steps, left * seconds_a_step))
