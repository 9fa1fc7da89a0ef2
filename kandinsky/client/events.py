"""What a server answers, as values."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from kandinsky.wire import tensors


@dataclass(frozen=True)
class Queued:
    """An image waits for room in a stage's running batch."""

    index: int
    """Which image: item index x images per prompt + image index."""
    position: int
    """Images in front of it; an estimate where several tenants wait."""
    wait: float | None = None
    """Estimated seconds until it is admitted; None until one is measured."""


@dataclass(frozen=True)
class Progress:
    """An image took a step."""

    index: int
    phase: str
    """Such as `prior`, `denoise` or `decode`."""
    step: int
    """Steps done in this phase, 0 to `steps`."""
    steps: int
    remaining: float | None
    """Estimated seconds to the end of the stage's work; None until a step is measured."""


@dataclass(frozen=True)
class Preview:
    """The predicted original sample at the current step, as an image."""

    index: int
    step: int
    pixels: tensors.Array
    """uint8 [h, w, 3]."""
    cost: float
    """Seconds of the device that it took."""


@dataclass(frozen=True)
class StageStats:
    """What a stage did for one image, and with whom it shared."""

    queued: float
    """Seconds from arrival to the first step."""
    running: float
    """Seconds from the first step to the result."""
    forwards: int
    """Forward passes that the image took part in."""
    shared_forwards: int
    """Those of them with rows of other images."""
    first_shared_forward: int | None
    """Index of the first of them; None if none was shared."""
    last_shared_forward: int | None
    """Index of the last of them; None if none was shared."""
    peak_rows: int
    """Most rows in one of them."""
    resumes: int = 0
    """How often the image went on elsewhere because its replica was lost or stopped."""
    steps_redone: int = 0
    """Steps that were taken again after those."""
    most_steps_redone: int = 0
    """The most of them after one of those."""


@dataclass(frozen=True)
class Generated:
    """A finished image."""

    index: int
    """Which image: item index x images per prompt + image index."""
    seed: int
    """The seed that makes this image alone."""
    format: str
    """Such as `png` or `latents`."""
    elapsed: float
    """Seconds from the request's arrival at the server to this image."""
    stats: dict[str, StageStats]
    """By stage: `prior` where one ran, `decoder`."""
    encoded: bytes | None = field(default=None, repr=False)
    """The file, where `format` is one."""
    tensor: tensors.Array | None = field(default=None, repr=False)
    """The tensor, where `format` is one; read-only."""
    flagged: bool | None = None
    """Whether the model's safety checker blackened it; None where none has looked."""

    @cached_property
    def image(self) -> Image.Image:
        """The image, as PIL has it.

        Raises:
            ValueError: the result is a latent.
        """
        if self.encoded is not None:
            image = Image.open(io.BytesIO(self.encoded))
            image.load()
            return image
        if self.format == "latents":
            raise ValueError("latents are not pixels; read .array")
        pixels = self.array
        if pixels.dtype != np.uint8:
            pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        return Image.fromarray(pixels)

    @cached_property
    def array(self) -> tensors.Array:
        """The tensor as it came, or a file's pixels, uint8 [H, W, 3]."""
        return np.asarray(self.image) if self.tensor is None else self.tensor

    def save(self, path: str | Path) -> None:
        """Write the file as it came, or as `path`'s suffix says; `.npy` holds the array.

        Raises:
            ValueError: the suffix names no image format, or the result is a latent.
            OSError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            np.save(path, self.array)
        elif self.encoded is not None and _format_of(path) == self.format:
            path.write_bytes(self.encoded)
        else:
            self.image.save(path)


@dataclass(frozen=True)
class StageCost:
    """What a request would cost a stage."""

    denoise_cost: int
    """Rows x latent area x steps, of all images."""
    running: float | None
    """Seconds of its slowest job alone; None until one is measured."""
    queued: float | None
    """Seconds that a job waits for room; None until one has waited."""


@dataclass(frozen=True)
class CostEstimate:
    """What a request would cost, as measured of late."""

    images: int
    """Images that it makes."""
    stages: dict[str, StageCost]
    """By stage: `prior` where one would run, `decoder`."""
    least: float | None
    """Seconds from arrival to the last image, at the least; None until a stage is measured."""


Event = Queued | Progress | Preview | Generated | CostEstimate
OnProgress = Callable[[Progress], None]


class Results:
    """The images of a stream of events; its progress is reported on the way."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._images: list[Generated] = []

    def add(self, event: Event) -> None:
        """Keep an image; report a step."""
        if isinstance(event, Generated):
            self._images.append(event)
        elif isinstance(event, Progress) and self._on_progress is not None:
            self._on_progress(event)

    @property
    def images(self) -> list[Generated]:
        """In order of their index."""
        return sorted(self._images, key=lambda image: image.index)


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    return "jpeg" if suffix == "jpg" else suffix
