"""The images that a table asks for, and their requests: every side makes the same ones."""

import io
import itertools
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import CanvasKind
from kandinsky.client import requests
from kandinsky.v1.generation_pb2 import GenerateRequest

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
    """Images whose canvas, size, steps and guidance differ; the same list at every call.

    Each 18 in a row have every size with every number of steps once, in an order of their own.
    """
    draw = random.Random(MIXED_SEED)
    tasks: list[ImageTask] = []
    while len(tasks) < count:
        shapes = list(itertools.product(MIXED_SIZES, MIXED_STEPS))
        draw.shuffle(shapes)
        for size, steps in shapes:
            index = len(tasks)
            canvas = MIXED_CANVASES[index % len(MIXED_CANVASES)]
            tasks.append(
                ImageTask(
                    draw.choice(PROMPTS),
                    seed=index,
                    canvas=canvas,
                    size=size,
                    steps=steps,
                    guidance_scale=draw.choice(MIXED_GUIDANCE),
                    image=b"" if canvas is CanvasKind.NOISE else _drawing(index, size),
                    mask=_mask(size) if canvas is CanvasKind.INPAINT else b"",
                )
            )
    return tasks[:count]


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


def to_request(task: ImageTask, model: str, **more: Any) -> GenerateRequest:
    """The request for an image."""
    options: Any = {
        "model": model,
        "height": task.size,
        "width": task.size,
        "steps": task.steps,
        "guidance_scale": task.guidance_scale,
        "seed": task.seed,
        **more,
    }
    if task.canvas is CanvasKind.IMAGE:
        return requests.image_to_image(task.image, task.prompt, strength=STRENGTH, **options)
    if task.canvas is CanvasKind.INPAINT:
        return requests.inpaint(task.image, task.mask, task.prompt, **options)
    return requests.text_to_image(task.prompt, **options)


def inpaintings(entry: CatalogEntry, count: int) -> tuple[list[str], list[bytes], list[bytes]]:
    """Prompts, PNG images and PNG masks for one request, of the model's default size."""
    size = entry.size.height
    prompts = [PROMPTS[index % len(PROMPTS)] for index in range(count)]
    return prompts, [_drawing(index, size) for index in range(count)], [_mask(size)] * count


def to_task(request: GenerateRequest) -> ImageTask:
    """What `to_request` made the request of."""
    canvas = CanvasKind(request.canvas.WhichOneof("kind") or CanvasKind.NOISE)
    image = mask = b""
    if canvas is CanvasKind.IMAGE:
        image = request.canvas.image.images[0].encoded
    elif canvas is CanvasKind.INPAINT:
        image = request.canvas.inpaint.images[0].encoded
        mask = request.canvas.inpaint.masks[0].encoded
    return ImageTask(
        prompt=request.guide.text.prompts[0],
        seed=request.seed,
        canvas=canvas,
        size=request.decoder.height,
        steps=request.decoder.steps,
        guidance_scale=request.decoder.guidance_scale,
        image=image,
        mask=mask,
    )


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
