"""What a server answers, as values. The one place where both clients read events."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import duration_pb2
from PIL import Image

from kandinsky.v1 import generation_pb2, sampling_pb2
from kandinsky.wire import tensors

_FORMAT_NAMES = {
    number: name.removeprefix("OUTPUT_FORMAT_").lower()
    for name, number in generation_pb2.OutputFormat.items()
}


@dataclass(frozen=True)
class Queued:
    """An image waits for room in a stage's running batch."""

    index: int
    """Which image: prompt index x images per prompt + image index."""
    position: int
    """Images in front of it; an estimate where several tenants wait."""
    wait: float | None = None
    """Estimated seconds until it is let in; None until anything was measured."""


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
    """Estimated seconds to the end of the stage's work; None until a step was measured."""


@dataclass(frozen=True)
class Preview:
    """The predicted clean picture at the current step."""

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
    first_shared_forward: int
    """-1 if none."""
    last_shared_forward: int
    """-1 if none."""
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
    """Which image: prompt index x images per prompt + image index."""
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

    @cached_property
    def image(self) -> Image.Image:
        """The picture.

        Raises:
            ValueError: latents are no picture.
        """
        if self.encoded is not None:
            image = Image.open(io.BytesIO(self.encoded))
            image.load()
            return image
        if self.format == "latents":
            raise ValueError("latents are no picture; read .array")
        pixels = self.array
        if pixels.dtype != np.uint8:
            pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        return Image.fromarray(pixels)

    @cached_property
    def array(self) -> tensors.Array:
        """The tensor as it came, or a file's pixels, uint8 [H, W, 3]."""
        return np.asarray(self.image) if self.tensor is None else self.tensor

    def save(self, path: str | Path) -> None:
        """Writes the file as it came, or what `path`'s suffix asks for; `.npy` holds the array.

        Raises:
            ValueError: the suffix is no picture format's, or latents are no picture.
            OSError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            np.save(path, self.array)
        elif self.encoded is not None and _format_of(path) == self.format:
            path.write_bytes(self.encoded)
        else:
            self.image.save(path)


Event = Queued | Progress | Preview | Generated
OnProgress = Callable[[Progress], None]


class Gathering:
    """The images of a stream of events, its progress told on the way."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._images: list[Generated] = []

    def add(self, event: Event) -> None:
        """Keeps an image; tells a step's news."""
        if isinstance(event, Generated):
            self._images.append(event)
        elif isinstance(event, Progress) and self._on_progress is not None:
            self._on_progress(event)

    @property
    def images(self) -> list[Generated]:
        """In order of their index."""
        return sorted(self._images, key=lambda image: image.index)


def read(event: generation_pb2.GenerateEvent) -> Event | None:
    """The event as a value; None for a kind that only newer clients know.

    Raises:
        KandinskyError: INVALID_FIELD if a tensor's bytes are not what its shape says.
    """
    index = event.image_index
    match event.WhichOneof("event"):
        case "queued":
            queued = event.queued
            wait = _seconds(queued.wait) if queued.HasField("wait") else None
            return Queued(index, queued.position, wait)
        case "progress":
            news = event.progress
            remaining = _seconds(news.remaining) if news.HasField("remaining") else None
            return Progress(index, news.phase, news.step, news.steps, remaining)
        case "preview":
            preview = event.preview
            pixels = tensors.decode(preview.pixels, "preview.pixels")
            return Preview(index, preview.step, pixels, _seconds(preview.cost))
        case "image":
            return _generated(event.image)
        case _:
            return None


def _generated(image: generation_pb2.GeneratedImage) -> Generated:
    tensor: Any = None
    if image.WhichOneof("content") == "tensor":
        tensor = tensors.decode(image.tensor, "image.tensor")
    return Generated(
        index=image.index,
        seed=image.seed,
        format=_FORMAT_NAMES.get(image.format, "png"),
        elapsed=_seconds(image.elapsed),
        stats={
            stage: _stats(getattr(image, f"{stage}_stats"))
            for stage in ("prior", "decoder")
            if image.HasField(f"{stage}_stats")
        },
        encoded=image.encoded if tensor is None else None,
        tensor=tensor,
    )


def _stats(stats: sampling_pb2.SamplingStats) -> StageStats:
    return StageStats(
        queued=_seconds(stats.queued),
        running=_seconds(stats.running),
        forwards=stats.forwards,
        shared_forwards=stats.shared_forwards,
        first_shared_forward=stats.first_shared_forward,
        last_shared_forward=stats.last_shared_forward,
        peak_rows=stats.peak_rows,
        resumes=stats.resumes,
        steps_redone=stats.steps_redone,
        most_steps_redone=stats.most_steps_redone,
    )


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.ToNanoseconds() / 1e9


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    return "jpeg" if suffix == "jpg" else suffix
