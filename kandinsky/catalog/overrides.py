"""What a catalog entry changes of its family's declaration: sizes, samplers, limits."""

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kandinsky.catalog.family import SamplerSpec

Pixels = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=1)]
GuidanceScale = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class EntryFault(ValueError):
    """A key whose value contradicts another key, or the family's declaration."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        """Dotted, from the entry or from the part of it that raised."""
        self.why = why

    def under(self, key: str) -> "EntryFault":
        """The same with a key before its own."""
        return EntryFault(f"{key}.{self.key}", self.why)


class Frozen(BaseModel):
    """A part of an entry: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplerOverrides(Frozen):
    """What a model changes of a sampler that its family declares; None leaves it."""

    steps: Steps | None = None
    max_steps: Steps | None = None
    guidance_scale: GuidanceScale | None = None
    strength: Strength | None = None

    def applied(self, sampler: SamplerSpec) -> SamplerSpec:
        """The sampler with these overrides.

        Raises:
            EntryFault: the steps contradict each other or the family.
        """
        most = sampler.max_steps
        if self.max_steps is not None and self.max_steps > most:
            raise EntryFault("max_steps", f"{self.max_steps} exceeds the family's {most}")
        changed = replace(sampler, **self.model_dump(exclude_none=True))
        if not changed.min_steps <= changed.steps <= changed.max_steps:
            bounds = f"{changed.min_steps} to {changed.max_steps}"
            raise EntryFault("steps", f"{changed.steps} default steps are outside {bounds}")
        return changed


class Size(Frozen):
    """The sizes that a model draws."""

    height: Pixels
    """Where a request names none."""
    width: Pixels
    """Where a request names none."""
    min: Pixels
    """Each side."""
    max: Pixels
    """Each side."""

    def check(self, multiple: int) -> None:
        """Check the default size.

        Raises:
            EntryFault: a side is not a multiple of `multiple`, or outside the limits.
        """
        for key, side in (("height", self.height), ("width", self.width)):
            if side % multiple:
                raise EntryFault(key, f"{side} is not a multiple of {multiple}")
            if not self.min <= side <= self.max:
                raise EntryFault(key, f"{side} is outside {self.min} to {self.max}")


class Limits(Frozen):
    """What a request may ask for."""

    max_prompt_characters: int = Field(default=2000, ge=1)
    max_images: int = Field(default=64, ge=1, le=128)
    """Images in one request: items of the guide x images per prompt."""
