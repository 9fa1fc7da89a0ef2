"""Presets: what is saved of the decoder's work, by name; docs/quality.md says at what loss."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A guidance interval and a step cache interval."""

    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Of t / num_train_timesteps: arXiv 2404.07724."""
    step_cache_interval: int = 1
    """Steps from one whole pass to the next: arXiv 2312.00858."""


PRESETS: Mapping[str, Preset] = {
    "exact": Preset(),
    "balanced": Preset((0.0, 0.8), 2),
    "fast": Preset((0.1, 0.8), 3),
}
"""By the names of `Preset` in settings.proto."""
