"""Which sampler a scheduler has: its table where it is written here, else diffusers' object."""

from collections.abc import Mapping
from typing import Any

from services.samplers.ddim import DDIM
from services.samplers.ddpm import DDPM
from services.samplers.dpm_solver import DPMSolver
from services.samplers.euler import Euler, EulerAncestral
from services.samplers.sampler import Sampler
from services.samplers.scheduler_sampler import SchedulerSampler
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


def new_sampler(
    scheduler: Any, steps: int, strength: float = 1.0, eta: float | None = None
) -> Sampler:
    """A sampler for one job; arguments and errors are those of `Sampler`."""
    cls = TABLES.get(type(scheduler).__name__)
    if cls is None or not cls.takes(scheduler):
        return SchedulerSampler(scheduler, steps, strength, eta)
    return cls(scheduler, steps, strength, eta)
