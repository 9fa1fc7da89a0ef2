"""Pictures to and from the public contract's requests, which both served sides speak."""

from benchmarks.workload import STRENGTH, Picture
from kandinsky.catalog.catalog import Flow
from kandinsky.client import requests
from kandinsky.v1 import generation_pb2 as generation

Request = generation.TextToImageRequest | generation.ImageToImageRequest | generation.InpaintRequest


def to_request(picture: Picture, model: str) -> Request:
    """The request for a picture."""
    told = {
        "model": model,
        "height": picture.size,
        "width": picture.size,
        "steps": picture.steps,
        "guidance_scale": picture.guidance_scale,
        "seed": picture.seed,
    }
    if picture.flow is Flow.IMAGE_TO_IMAGE:
        return requests.image_to_image(picture.image, picture.prompt, strength=STRENGTH, **told)
    if picture.flow is Flow.INPAINT:
        return requests.inpaint(picture.image, picture.mask, picture.prompt, **told)
    return requests.text_to_image(picture.prompt, **told)


def to_picture(request: Request) -> Picture:
    """What `to_request` was given."""
    flows: dict[type, Flow] = {
        generation.TextToImageRequest: Flow.TEXT_TO_IMAGE,
        generation.ImageToImageRequest: Flow.IMAGE_TO_IMAGE,
        generation.InpaintRequest: Flow.INPAINT,
    }
    flow = flows[type(request)]
    settings = request.settings
    return Picture(
        prompt=request.prompts[0],
        seed=settings.seed,
        flow=flow,
        size=settings.height,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        image=b"" if flow is Flow.TEXT_TO_IMAGE else request.image.encoded,
        mask=request.mask.encoded if flow is Flow.INPAINT else b"",
    )
