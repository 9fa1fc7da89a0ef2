"""Which sampler a scheduler has: its formula where it is written here, else diffusers' object."""

from typing import Any

from services.samplers.ddpm import DDPM
from services.samplers.sampler import Sampler

FORMULAS: dict[str, type[DDPM]] = {"DDPMScheduler": DDPM}
"""By the class of diffusers."""


def new_sampler(
    scheduler: Any, steps: int, strength: float = 1.0, eta: float | None = None
) -> Sampler:
    """A sampler for one job; arguments and errors are those of `Sampler`."""
    formula = FORMULAS.get(type(scheduler).__name__)
    cls = formula if formula is not None and formula.takes(scheduler) else Sampler
    return cls(scheduler, steps, strength, eta)
