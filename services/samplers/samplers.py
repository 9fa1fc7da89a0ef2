"""Which sampler a scheduler has: its table where it is written here, else diffusers' object."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from services.samplers.ddim import DDIM
from services.samplers.ddpm import DDPM
from services.samplers.dpm_solver import DPMSolver
from services.samplers.euler import Euler, EulerAncestral
from services.samplers.sampler import GivenLevels, Sampler
from services.samplers.scheduler_sampler import SchedulerSampler
from services.samplers.schedulers import Schedulers
from services.samplers.table_sampler import TableSampler
from services.samplers.unclip import UnCLIP

TABLES: Mapping[str, type[TableSampler]] = {
    "DDPMScheduler": DDPM,
    "DDIMScheduler": DDIM,
    "UnCLIPScheduler": UnCLIP,
    "DPMSolverMultistepScheduler": DPMSolver,
    "EulerDiscreteScheduler": Euler,
    "EulerAncestralDiscreteScheduler": EulerAncestral,
}
"""By the class of diffusers."""
TABLES_KEPT = 256
"""Of the settings that were asked for last."""


def new_sampler(
    scheduler: Any, steps: int, strength: float = 1.0, eta: float | None = None
) -> Sampler:
    """A sampler for one job; arguments and errors are those of `Sampler`."""
    cls = _table_class(scheduler) or SchedulerSampler
    return cls(scheduler, steps, strength, eta)


def _table_class(scheduler: Any) -> type[TableSampler] | None:
    cls = TABLES.get(type(scheduler).__name__)
    return cls if cls is not None and cls.takes(scheduler) else None


def sampler_of(
    schedulers: Schedulers,
    name: str | None,
    steps: int,
    strength: float = 1.0,
    eta: float | None = None,
    given: GivenLevels | None = None,
) -> Sampler:
    """A sampler for one job. Jobs of equal settings have one table: it takes milliseconds to make.

    Args:
        schedulers: of the checkpoint.
        name: as `Schedulers.new` takes it.
        steps: as `Sampler` takes them, and so on.
        strength: likewise.
        eta: likewise.
        given: likewise; then the scheduler's own object takes the steps.

    Raises:
        SettingRefused: as `Schedulers.new` and `Sampler` do.
    """
    if given is not None:
        return SchedulerSampler(schedulers.new(name), steps, strength, eta, given)
    make = _shared if _has_table(schedulers, name) else _own
    return make(schedulers, name, steps, strength, eta)


@lru_cache(maxsize=TABLES_KEPT)
def _has_table(schedulers: Schedulers, name: str | None) -> bool:
    """Else the scheduler's own object takes the steps, which is one job's alone."""
    return _table_class(schedulers.new(name)) is not None


def _own(
    schedulers: Schedulers, name: str | None, steps: int, strength: float, eta: float | None
) -> Sampler:
    return new_sampler(schedulers.new(name), steps, strength, eta)


_shared = lru_cache(maxsize=TABLES_KEPT)(_own)
