"""What a canvas can start as: noise, a picture, or a picture with a mask."""

from __future__ import annotations

import numpy as np

from gateway.crops import Crop, box_of
from gateway.inputs import Mask, Picture, fitted
from gateway.plan import Start
from gateway.settings import Settings
from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid


def noise(settings: Settings, hint: tensor_pb2.Tensor | None = None, hint_field: str = "") -> Start:
    """Pure noise, from the seed or from the request's latents."""
    canvas = sampling_pb2.Canvas(
        height=settings.height, width=settings.width, noise=sampling_pb2.NoiseCanvas()
    )
    fields = {"canvas.noise.latents": "latents", "conditioning.hint": hint_field}
    return Start(canvas, fields, hint)


def image(
    picture: Picture,
    strength: float | None,
    settings: Settings,
    hint: tensor_pb2.Tensor | None = None,
    hint_field: str = "",
) -> Start:
    """A picture with noise added.

    Args:
        picture: pixels are brought to the canvas's size.
        strength: share of the steps that is run.
        settings: hold that size.
        hint: [3, H, W] control hint.
        hint_field: its path.
    """
    start = sampling_pb2.ImageCanvas(strength=strength)
    _put(start, picture, settings)
    canvas = sampling_pb2.Canvas(height=settings.height, width=settings.width, image=start)
    fields = {
        "canvas.image.pixels": f"{picture.field}.pixels",
        "canvas.image.latents": f"{picture.field}.latents",
        "canvas.image.strength": "strength",
        "canvas.image.noise": "latents",
        "conditioning.hint": hint_field,
    }
    return Start(canvas, fields, hint)


def _put(
    start: sampling_pb2.ImageCanvas | sampling_pb2.MaskedImageCanvas,
    picture: Picture,
    settings: Settings,
) -> None:
    if picture.latents is not None:
        start.latents.CopyFrom(picture.latents)
    else:
        pixels = fitted(picture, settings.height, settings.width)
        start.pixels.CopyFrom(tensors.encode(pixels))


def masked_image(
    picture: Picture,
    mask: Mask,
    strength: float | None,
    settings: Settings,
) -> Start:
    """A picture of which a part is made anew.

    Args:
        picture: pixels are brought to the canvas's size.
        mask: of any size; brought to the canvas's, as the picture is.
        strength: share of the steps that is run; None for all.
        settings: hold the canvas's size.
    """
    levels = mask.resized(settings.height, settings.width).levels
    start = sampling_pb2.MaskedImageCanvas(
        mask=tensors.encode(np.ascontiguousarray(levels)), strength=strength
    )
    _put(start, picture, settings)
    canvas = sampling_pb2.Canvas(height=settings.height, width=settings.width, masked_image=start)
    fields = {
        "canvas.masked_image.pixels": f"{picture.field}.pixels",
        "canvas.masked_image.latents": f"{picture.field}.latents",
        "canvas.masked_image.mask": mask.field,
        "canvas.masked_image.strength": "strength",
        "canvas.masked_image.noise": "latents",
    }
    return Start(canvas, fields)


def cropped(
    picture: Picture, mask: Mask, padding: int, strength: float | None, settings: Settings
) -> Start:
    """The part of a picture around a mask, made anew at the canvas's size and laid back.

    Arguments as of `masked_image`; `padding` in pixels of the picture, to whose size the mask is
    brought first.

    Raises:
        KandinskyError: INVALID_FIELD if the mask is black.
        ValueError: the picture has no uint8 pixels.
    """
    if picture.pixels is None or picture.pixels.dtype != np.uint8:
        raise ValueError("only uint8 pixels are cropped")
    mask = mask.resized(*picture.pixels.shape[:2])
    if not mask.levels.any():
        raise invalid(mask.field, "is black; there is nothing to crop to")
    left, top, right, bottom = box = box_of(mask.levels, padding, settings.height, settings.width)
    part = Picture(picture.field, picture.pixels[top:bottom, left:right])
    start = masked_image(part, mask.cropped(*box), strength, settings)
    return Start(start.canvas, start.fields, crop=Crop(picture.pixels, mask.levels, box))
