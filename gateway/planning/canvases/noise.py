"""No canvas: denoising starts from noise alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from gateway.planning.canvases import Canvas, MadeStart, Start, sized_latents
from gateway.planning.guides import Guide
from gateway.requests.settings import ImageSize
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.family import CanvasKind
from kandinsky.v1 import sampling_pb2


@dataclass(frozen=True)
class NoiseStart(Start):
    """Noise, from the seed or from the request's latents."""

    def make(self, size: ImageSize) -> MadeStart:
        """See Start."""
        latents = sized_latents(size)
        latents.set("noise", sampling_pb2.NoiseLatents(), "decoder.latents")
        return MadeStart(latents)


@dataclass(frozen=True)
class NoiseCanvas(Canvas):
    """No canvas."""

    kind = CanvasKind.NOISE
    has_images = False

    @classmethod
    def validate(cls, message: Any, path: str, guide: Guide, reader: ValueReader) -> Self:
        """See Canvas."""
        return cls((), 1.0)

    @property
    def starts(self) -> tuple[Start, ...]:
        """See Canvas."""
        return (NoiseStart(),)

    def size(self, guide: Guide) -> ImageSize | None:
        """See Canvas."""
        return ImageSize.of(guide.images)
