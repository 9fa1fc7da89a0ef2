"""The images that a table asks for: every side makes the same ones."""

import io
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import CanvasKind

COLOURS = ("red", "green", "yellow", "purple")
PROMPTS = (
    "a red circle on a blue background",
    "a big green star on a white background",
    "a yellow square on a black background",
    "a purple ring on a gray background",
)

MIXED_SEED = 2022
MIXED_CANVASES = (CanvasKind.NOISE, CanvasKind.IMAGE, CanvasKind.INPAINT)
MIXED_SIZES = (128, 192)
MIXED_STEPS = range(10, 51, 5)
MIXED_GUIDANCE = (2.0, 4.0, 6.0)
STRENGTH = 0.6
"""Share of its steps that an image to image request runs."""


@dataclass(frozen=True)
class ImageTask:
    """One image to make, in a request of its own."""

    prompt: str
    seed: int
    canvas: CanvasKind
    size: int
    """Pixels, both sides."""
    steps: int
    """Of the decoder; the prior's are the model's default."""
    guidance_scale: float
    """Of the decoder, as above."""
    image: bytes = b""
    """PNG, for image to image and inpaint."""
    mask: bytes = b""
    """PNG, for inpaint; white is generated."""

    @property
    def flow(self) -> str:
        """As logs and metrics name it: `text`, `text+image` or `text+inpaint`."""
        return "text" if self.canvas is CanvasKind.NOISE else f"text+{self.canvas.value}"

    @property
    def parameters(self) -> Hashable:
        """Images of equal ones can be made by one call of a pipeline."""
        return self.canvas, self.size, self.steps, self.guidance_scale


def plain(entry: CatalogEntry, count: int) -> list[ImageTask]:
    """Text to image with the model's defaults; they differ in prompt and seed alone."""
    sampler = entry.sampler("decoder")
    if sampler is None:
        raise LookupError(f"{entry.name} has no decoder settings")
    return [
        ImageTask(
            PROMPTS[index % len(PROMPTS)],
            seed=index,
            canvas=CanvasKind.NOISE,
            size=entry.size.height,
            steps=sampler.steps,
            guidance_scale=sampler.guidance_scale,
        )
        for index in range(count)
    ]


def mixed(count: int) -> list[ImageTask]:
    """Images whose canvas, size, steps and guidance differ; the same list at every call."""
    draw = random.Random(MIXED_SEED)
    tasks = []
    for index in range(count):
        canvas = MIXED_CANVASES[index % len(MIXED_CANVASES)]
        size = draw.choice(MIXED_SIZES)
        tasks.append(
            ImageTask(
                draw.choice(PROMPTS),
                seed=index,
                canvas=canvas,
                size=size,
                steps=draw.choice(MIXED_STEPS),
                guidance_scale=draw.choice(MIXED_GUIDANCE),
                image=b"" if canvas is CanvasKind.NOISE else _drawing(index, size),
                mask=_mask(size) if canvas is CanvasKind.INPAINT else b"",
            )
        )
    return tasks


def groups(tasks: Sequence[ImageTask]) -> list[list[int]]:
    """Indices of images that one pipeline call can make, in order of their first.

    An inpainted image stands alone: the reference pipeline blends a whole batch with its first
    image.
    """
    found: dict[Hashable, list[int]] = {}
    for index, task in enumerate(tasks):
        key = index if task.canvas is CanvasKind.INPAINT else task.parameters
        found.setdefault(key, []).append(index)
    return list(found.values())


def _drawing(index: int, size: int) -> bytes:
    image = Image.new("RGB", (size, size), COLOURS[index % len(COLOURS)])
    box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
    ImageDraw.Draw(image).ellipse(box, fill=COLOURS[(index + 1) % len(COLOURS)])
    return _png(image)


def _mask(size: int) -> bytes:
    """The lower right quarter is generated."""
    image = Image.new("L", (size, size), 0)
    image.paste(255, (size // 2, size // 2, size, size))
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
