"""What the engine has done, for operators and for tests that must see rows share a forward."""

from collections import deque
from dataclasses import dataclass, field

TRACE_LENGTH = 4096
"""Forwards that are remembered one by one."""


@dataclass(frozen=True)
class Forward:
    """One forward pass."""

    network: str
    rows: int
    jobs: tuple[tuple[str, int], ...]
    """Id of each job that had rows in it, with the steps it had done before."""


@dataclass(frozen=True)
class Leave:
    """How a job left after its caller had gone or its deadline had passed."""

    job: str
    steps: int
    """Steps of it that ended after that moment."""
    seconds: float
    """From that moment to its leaving."""


@dataclass
class Counters:
    """Totals since the engine started, and its latest forwards."""

    forwards: int = 0
    rows: int = 0
    shared_forwards: int = 0
    """Forwards with rows of two jobs or more."""
    admitted: int = 0
    """Jobs that entered the running batch."""
    resumed: int = 0
    """Those of them that went on from a snapshot."""
    preempted: int = 0
    """Times that a running job was paused for another of its tenant."""
    finished: int = 0
    abandoned: int = 0
    """Jobs dropped because their caller had gone."""
    expired: int = 0
    """Jobs dropped because their deadline had passed."""
    refused: int = 0
    """Jobs that found the queue full, or whose deadline could not be kept."""
    failed: int = 0
    drained: int = 0
    """Jobs evicted because the engine shut down."""
    snapshots: int = 0
    out_of_memory: int = 0
    """Forwards that ran out of memory and were run in halves."""
    previews: int = 0
    previews_left_out: int = 0
    """Previews that were due, but would have taken other tenants' time."""
    leaves: deque[Leave] = field(default_factory=lambda: deque(maxlen=TRACE_LENGTH))
    """The latest of those abandoned or expired."""
    trace: deque[Forward] = field(default_factory=lambda: deque(maxlen=TRACE_LENGTH))

    def record_forward(self, forward: Forward) -> None:
        """Count a forward."""
        self.forwards += 1
        self.rows += forward.rows
        self.shared_forwards += len(forward.jobs) > 1
        self.trace.append(forward)
