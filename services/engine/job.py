"""One image, or one embedding, on its way through the engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from services.engine.events import Event, Finished
from services.engine.group import GroupKey
from services.engine.phase import Network, Phase
from services.engine.snapshot import Snapshot
from services.engine.stack import LATENT, Stack, State
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
    """Steps between progress events beside a phase's first and last; None: at most ten a second."""
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
    paused_at: float | None = None
    """When it was paused, while it is."""
    paused: float = 0.0
    """Seconds of all pauses that are over."""
    late_steps: int = 0
    """Steps whose forward ended after the caller had gone or the deadline had passed."""
    rows: int = field(init=False)
    """Rows that the job has in a forward, at most."""
    latent_area: int = field(init=False)
    """Latent area of the job's rows in a forward, at most."""
    cost: float = field(init=False)
    """Of all steps of all phases; of a paused job, of those that are left. See Phase.cost_at."""
    group: GroupKey = field(init=False)
    """Set when the job enters a phase, or its next step is another network's."""
    _before: Snapshot | None = None
    """Before the latest whole pass; what shallow ones after it begin from is not kept."""
    _index: int = 0
    _stack: Stack = field(init=False)
    _place: int = 0

    def __post_init__(self) -> None:
        self.rows = max(phase.rows for phase in self.phases)
        self.latent_area = max(phase.rows * phase.latent_area for phase in self.phases)
        self.cost = self._cost_left()

    @property
    def phase(self) -> Phase:
        """The phase at work."""
        return self.phases[self._index]

    @property
    def network(self) -> Network:
        """Of the next forward."""
        return self.phase.network_at(self.step)

    @property
    def phases_left(self) -> Sequence[Phase]:
        """The phase at work and those after it."""
        return self.phases[self._index :]

    @property
    def left(self) -> tuple[Sequence[Phase], int]:
        """The phases to pass, and the steps of the first of them that are done already."""
        saved = self.resume_from
        if saved is not None and (self._index, self.step) < (saved.phase, saved.step):
            return self.phases[saved.phase :], saved.step
        return self.phases_left, self.step

    @property
    def is_paused(self) -> bool:
        """Whether it waits to go on from where it is."""
        return self.paused_at is not None

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

    def pause(self, now: float) -> None:
        """Wait, between two steps, to go on from there; the state stays where it is."""
        self.paused_at, self.cost = now, self._cost_left()

    def begin(self, now: float) -> None:
        """Enter the first phase; a paused job goes on."""
        if self.paused_at is not None:
            self.paused += now - self.paused_at
            self.paused_at = None
            return
        self.admitted = now
        self.stats.queued = self.admitted - self.arrived
        saved = self.resume_from
        if saved is not None and self.phases[saved.phase].stands_alone:
            self._index = saved.phase
        self._enter(None)

    def take_step(self) -> None:
        """Count a step; the next one may be another network's."""
        before = self.network
        self.step += 1
        if self.step < len(self.phase.timesteps) and self.network is not before:
            self._note_group()

    def record_forward(self, rows: int, shared: bool, now: float) -> None:
        """Count a forward that the job took part in.

        Args:
            rows: of all jobs in it.
            shared: whether another job had rows in it.
            now: when it ended.
        """
        self.stats.record_forward(rows, shared)
        self.late_steps += now >= self.expires_at

    @property
    def is_shallow(self) -> bool:
        """Whether the next step leaves out the network's deep part."""
        return self.phase.is_shallow(self.step)

    @property
    def stack(self) -> Stack:
        """In which the job's state is."""
        return self._stack

    @property
    def state(self) -> State:
        """What the job carries from step to step, [1, ...] each."""
        return self._stack.state_of(self._place)

    @property
    def deep(self) -> torch.Tensor | None:
        """What the network's deep part gave for the job's rows, where that is kept."""
        return self._stack.deep_of(self._place) if self.phase.keeps_deep else None

    def join(self, stack: Stack, place: int) -> None:
        """Have the state in a stack from now on.

        Args:
            stack: holds it.
            place: of the job among its members.
        """
        self._stack, self._place = stack, place

    @property
    def preview_is_due(self) -> bool:
        """Whether a preview belongs to the next step."""
        return self.preview_every is not None and (self.step + 1) % self.preview_every == 0

    def enter_next_phase(self, now: float) -> None:
        """After a phase's last step: enter the next phase, or end with the result."""
        value = self.phase.result(self.state[LATENT])
        if self._index + 1 < len(self.phases):
            self._index += 1
            self._enter(value)
        else:
            self.stats.running = now - self.admitted
            outputs, state = self.phase.outputs(value), self.generator.get_state()
            self.end(Finished(outputs, self.stats, state))

    def end(self, outcome: Finished | Exception) -> None:
        """Give the caller a result or an error."""
        self.ended = True
        self.leave()
        self.emit(outcome)

    def leave(self) -> None:
        """Let go of the state, which the stack would else keep on the device."""
        self._stack, self._before = Stack([self], [{}]), None

    def snapshot(self) -> Snapshot | None:
        """The state between two steps; None where beginning again loses nothing.

        Before a shallow pass: that before the whole pass whose deep part it uses.
        """
        if not self.step:
            return None
        found = self._before if self.is_shallow else self._now()
        return found if found is not None and found.step else None

    def keep_snapshot(self) -> None:
        """Note the state before a whole pass, where shallow ones may follow."""
        self._before = self._now()

    def _cost_left(self) -> float:
        phase, *later = self.phases_left
        steps = [(phase, step) for step in range(self.step, len(phase.timesteps))]
        steps += [(each, step) for each in later for step in range(len(each.timesteps))]
        return sum(each.cost_at(step) for each, step in steps)

    def _now(self) -> Snapshot:
        state = self.state
        return Snapshot(
            self._index,
            self.step,
            state[LATENT],
            self.generator.get_state(),
            self.phase.saved(state),
        )

    def _enter(self, value: torch.Tensor | None) -> None:
        self.step, saved = 0, self.resume_from
        goes_on = saved is not None and saved.phase == self._index
        begins = not (goes_on and self.phase.stands_alone)
        state = self.phase.begin(value, self.generator) if begins else {}
        if saved is not None and goes_on:
            self.generator.set_state(saved.generator_state)
            self.step = saved.step
            state = self.phase.restore(saved, state)
        self.join(Stack([self], [state]), 0)
        self._before = None
        self._note_group()

    def _note_group(self) -> None:
        self.group = GroupKey.of(self.phase, self.step, self.state)
