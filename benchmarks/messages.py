"""Image tasks to and from the public contract's request, which both served sides read."""

from typing import Any

from benchmarks.workload import STRENGTH, ImageTask
from kandinsky.catalog.family import CanvasKind
from kandinsky.client import requests
from kandinsky.v1.generation_pb2 import GenerateRequest


def to_request(task: ImageTask, model: str) -> GenerateRequest:
    """The request for an image."""
    options: Any = {
        "model": model,
        "height": task.size,
        "width": task.size,
        "steps": task.steps,
        "guidance_scale": task.guidance_scale,
        "seed": task.seed,
    }
    if task.canvas is CanvasKind.IMAGE:
        return requests.image_to_image(task.image, task.prompt, strength=STRENGTH, **options)
    if task.canvas is CanvasKind.INPAINT:
        return requests.inpaint(task.image, task.mask, task.prompt, **options)
    return requests.text_to_image(task.prompt, **options)


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
