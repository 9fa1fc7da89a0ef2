"""Which sampler a scheduler has: its table where it is written here, else diffusers' object."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from services.samplers.ddim import DDIM
from services.samplers.ddpm import DDPM
from services.samplers.dpm_solver import DPMSolver
from services.samplers.euler import Euler, EulerAncestral
from services.samplers.sampler import Sampler
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
    cls = TABLES.get(type(scheduler).__name__)
    if cls is None or not cls.takes(scheduler):
        return SchedulerSampler(scheduler, steps, strength, eta)
    return cls(scheduler, steps, strength, eta)


def sampler_of(
    schedulers: Schedulers,
    name: str | None,
    steps: int,
    strength: float = 1.0,
    eta: float | None = None,
) -> Sampler:
    """A sampler for one job. Jobs of equal settings have one table: it takes milliseconds to make.

    Args:
        schedulers: of the checkpoint.
        name: as `Schedulers.new` takes it.
        steps: as `Sampler` takes them, and so on.
        strength: likewise.
        eta: likewise.

    Raises:
        SettingRefused: as `Schedulers.new` and `Sampler` do.
    """
    if (shared := _table(schedulers, name, steps, strength, eta)) is not None:
        return shared
    return new_sampler(schedulers.new(name), steps, strength, eta)


@lru_cache(maxsize=TABLES_KEPT)
def _table(
    schedulers: Schedulers, name: str | None, steps: int, strength: float, eta: float | None
) -> TableSampler | None:
    """None where the scheduler's own object, which is one job's alone, takes the steps."""
    sampler = new_sampler(schedulers.new(name), steps, strength, eta)
    return sampler if isinstance(sampler, TableSampler) else None
