"""Noise schedulers of diffusers by the names that requests use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers

CLASSES: Mapping[str, str] = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "dpm-solver++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2-ancestral": "KDPM2AncestralDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm-solver-singlestep": "DPMSolverSinglestepScheduler",
}
"""Classes of diffusers, by the names of `kandinsky.catalog.schedulers`."""
READS_VARIANCE = ("DDPMScheduler", "UnCLIPScheduler")
"""Classes that take the network's variance channels where their configuration says so."""


class SettingRefused(ValueError):
    """A sampling setting that a scheduler cannot take.

    Args:
        setting: `scheduler`, `steps`, `strength`, `eta`, `timesteps` or `sigmas`.
        description: one sentence that says what would be right.
    """

    def __init__(self, setting: str, description: str) -> None:
        super().__init__(f"{setting}: {description}")
        self.setting = setting
        self.description = description


@dataclass(frozen=True, eq=False)  # known by identity: what it holds has no hash
class Schedulers:
    """The noise schedulers that a checkpoint offers."""

    default: Any
    """The one that the checkpoint names."""
    configured: Mapping[str, Any] = field(default_factory=dict)
    """Further ones that the checkpoint configures itself, by the names of CLASSES."""
    is_fixed: bool = False
    """Whether there are no others: their noise levels would not be those of the training."""

    def new(self, name: str | None) -> Any:
        """A scheduler for one job.

        Args:
            name: None for the checkpoint's own.

        Raises:
            SettingRefused: there is no such name, or no choice.
        """
        if name is not None and self.is_fixed:
            raise SettingRefused("scheduler", "cannot be chosen for this model")
        if name is not None and name in self.configured:
            return new_scheduler(self.configured[name])
        return new_scheduler(self.default, name)


def new_scheduler(base: Any, name: str | None = None) -> Any:
    """A scheduler like `base`, or of the named class with `base`'s configuration.

    Args:
        base: the checkpoint's.
        name: one of CLASSES.

    Raises:
        SettingRefused: there is no such name.
    """
    if name is not None and name not in CLASSES:
        raise SettingRefused("scheduler", f"is none of {', '.join(CLASSES)}")
    cls = type(base) if name is None else getattr(diffusers, CLASSES[name])
    config = dict(base.config)
    if cls.__name__ not in READS_VARIANCE:
        # A class that cannot read them would carry the key along as its own, or cut the output at
        # three channels, which is right for pixels alone.
        config.pop("variance_type", None)
    if cls is diffusers.PNDMScheduler:
        # Its Runge-Kutta steps cannot begin in mid-schedule, and are not denoising steps.
        config["skip_prk_steps"] = True
    return cls.from_config(config)
