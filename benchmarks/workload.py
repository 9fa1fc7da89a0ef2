"""The pictures that are asked for: every side of a table makes the same ones."""

import io
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from kandinsky.catalog.catalog import Flow
from kandinsky.catalog.entry import CatalogEntry

COLOURS = ("red", "green", "yellow", "purple")
PROMPTS = (
    "a red circle on a blue background",
    "a big green star on a white background",
    "a yellow square on a black background",
    "a purple ring on a gray background",
)

MIXED_SEED = 2022
MIXED_FLOWS = (Flow.TEXT_TO_IMAGE, Flow.IMAGE_TO_IMAGE, Flow.INPAINT)
MIXED_SIZES = (128, 192)
MIXED_STEPS = range(10, 51, 5)
MIXED_GUIDANCE = (2.0, 4.0, 6.0)
STRENGTH = 0.6
"""Share of its steps that an image to image request runs."""


@dataclass(frozen=True)
class Picture:
    """One picture to make, in a request of its own."""

    prompt: str
    seed: int
    flow: Flow
    size: int
    """Pixels, both sides."""
    steps: int
    """Of the decoder; the prior's are the model's default."""
    guidance_scale: float
    """Of the decoder, as above."""
    image: bytes = b""
    """PNG, for image to image and inpaint."""
    mask: bytes = b""
    """PNG, for inpaint; white is repainted."""

    @property
    def parameters(self) -> Hashable:
        """Pictures of equal ones can be made by one call of a pipeline."""
        return self.flow, self.size, self.steps, self.guidance_scale


def plain(entry: CatalogEntry, count: int) -> list[Picture]:
    """Text to image with the model's defaults; they differ in prompt and seed alone."""
    defaults = entry.defaults
    return [
        Picture(
            PROMPTS[index % len(PROMPTS)],
            seed=index,
            flow=Flow.TEXT_TO_IMAGE,
            size=defaults.height,
            steps=defaults.steps,
            guidance_scale=defaults.guidance_scale,
        )
        for index in range(count)
    ]


def mixed(count: int) -> list[Picture]:
    """Pictures whose flow, size, steps and guidance differ; the same list at every call."""
    draw = random.Random(MIXED_SEED)
    pictures = []
    for index in range(count):
        flow = MIXED_FLOWS[index % len(MIXED_FLOWS)]
        size = draw.choice(MIXED_SIZES)
        pictures.append(
            Picture(
                draw.choice(PROMPTS),
                seed=index,
                flow=flow,
                size=size,
                steps=draw.choice(MIXED_STEPS),
                guidance_scale=draw.choice(MIXED_GUIDANCE),
                image=b"" if flow is Flow.TEXT_TO_IMAGE else _drawing(index, size),
                mask=_mask(size) if flow is Flow.INPAINT else b"",
            )
        )
    return pictures


def groups(pictures: Sequence[Picture]) -> list[list[int]]:
    """Indices of pictures that one pipeline call can make, in order of their first.

    An inpainted picture stands alone: the reference pipeline blends a whole batch with its first
    picture.
    """
    found: dict[Hashable, list[int]] = {}
    for index, picture in enumerate(pictures):
        key = index if picture.flow is Flow.INPAINT else picture.parameters
        found.setdefault(key, []).append(index)
    return list(found.values())


def _drawing(index: int, size: int) -> bytes:
    image = Image.new("RGB", (size, size), COLOURS[index % len(COLOURS)])
    box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
    ImageDraw.Draw(image).ellipse(box, fill=COLOURS[(index + 1) % len(COLOURS)])
    return _png(image)


def _mask(size: int) -> bytes:
    """The lower right quarter is repainted."""
    image = Image.new("L", (size, size), 0)
    image.paste(255, (size // 2, size // 2, size, size))
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
