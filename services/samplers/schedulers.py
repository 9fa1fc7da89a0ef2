"""Noise schedulers of diffusers by the names that requests use."""

from collections.abc import Mapping
from typing import Any

import diffusers

from kandinsky.wire.errors import invalid

CLASSES: Mapping[str, str] = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "dpm-solver++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Classes of diffusers, by the names of `kandinsky.catalog.schedulers`."""
READS_VARIANCE = ("DDPMScheduler", "UnCLIPScheduler")
"""Classes that take the network's variance channels where their configuration says so."""


def new_scheduler(base: Any, name: str) -> Any:
    """A scheduler of a job's own: `base`'s like, or the named class with `base`'s configuration.

    Args:
        base: the checkpoint's.
        name: one of CLASSES, or "".

    Raises:
        KandinskyError: INVALID_FIELD if there is no such name.
    """
    if name and name not in CLASSES:
        raise invalid("sampling.scheduler", f"is none of {', '.join(CLASSES)}")
    cls = getattr(diffusers, CLASSES[name]) if name else type(base)
    config = dict(base.config)
    if cls.__name__ not in READS_VARIANCE:
        # A class that cannot read them would carry the key along as its own, or cut the output at
        # three channels, which is right for pixels alone.
        config.pop("variance_type", None)
    if cls is diffusers.PNDMScheduler:
        # Its Runge-Kutta steps cannot begin in mid-schedule, and are not denoising steps.
        config["skip_prk_steps"] = True
    return cls.from_config(config)
