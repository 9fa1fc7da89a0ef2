"""Events of a job, from the engine to the job's caller."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from services.device.clock import Span
from services.engine.snapshot import Snapshot
from services.engine.stats import JobStats


@dataclass(frozen=True)
class Queued:
    """The job waits."""

    position: int
    """Jobs that are admitted before it."""
    wait: float | None = None
    """Estimated seconds until it is admitted; None before anything was measured."""


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
    """The predicted original sample, as an image."""

    step: int
    """Steps done."""
    pixels: torch.Tensor
    """uint8 [h, w, 3]."""
    made: Span
    """The device's time for all previews of the step."""
    of: int = 1
    """Their number."""

    @property
    def seconds(self) -> float:
        """Device time that making it took; to be asked once the pixels have left the device."""
        return self.made.seconds / self.of


@dataclass(frozen=True)
class Alive:
    """Nothing has happened for a while, but the engine is there: a step may take long."""


@dataclass(frozen=True)
class Finished:
    """The job's last phase has ended."""

    outputs: Mapping[str, torch.Tensor]
    """Named results of the last phase, [1, ...] each."""
    stats: JobStats
    generator_state: torch.Tensor
    """uint8 [5056], of the job's CPU generator after its last draw."""


Event = Queued | Progress | Preview | Snapshot | Alive | Finished
