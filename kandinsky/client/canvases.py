"""Canvases: where denoising starts. One builder a kind; without images, those of the guide.

Each raises `KandinskyError` (INVALID_FIELD) for a value that cannot be sent, and OSError for a file
that cannot be read.
"""

from typing import Any

from kandinsky.client.fields import put
from kandinsky.client.options import InputImages, Masks
from kandinsky.v1 import canvas_pb2

Canvas = canvas_pb2.Canvas


def image(images: InputImages | None = None, *, strength: float | None = None) -> Canvas:
    """An image with noise added.

    Args:
        images: one for all items of the guide, or one for each.
        strength: share of the steps that is run, above 0 up to 1.
    """
    return _canvas("image", images=images, strength=strength)


def inpaint(
    masks: Masks,
    images: InputImages | None = None,
    *,
    strength: float | None = None,
    padding_mask_crop: int | None = None,
    masked_image_latents: Any = None,
) -> Canvas:
    """An image whose masked part is generated.

    Args:
        masks: white is generated; one for all items of the guide, or one for each.
        images: as the masks.
        strength: share of the steps that is run, above 0 up to 1.
        padding_mask_crop: pixels around the mask's box; only that part is generated, at the full
            size.
        masked_image_latents: array [1 or items, C, h, w], latents of the images whose masked part
            is grey; some families read them.
    """
    return _canvas(
        "inpaint",
        images=images,
        masks=masks,
        strength=strength,
        padding_mask_crop=padding_mask_crop,
        masked_image_latents=masked_image_latents,
    )


def outpaint(
    images: InputImages | None = None,
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    strength: float | None = None,
) -> Canvas:
    """An image that is continued past its edges.

    Args:
        images: one for all items of the guide, or one for each.
        top: pixels to add above.
        bottom: pixels to add below.
        left: pixels to add on the left.
        right: pixels to add on the right.
        strength: share of the steps that is run, above 0 up to 1.
    """
    margins = {"top": top, "bottom": bottom, "left": left, "right": right}
    return _canvas("outpaint", images=images, strength=strength, **margins)


def _canvas(kind: str, **fields: Any) -> Canvas:
    canvas = Canvas()
    message = getattr(canvas, kind)
    message.SetInParent()
    put(message, fields, f"canvas.{kind}")
    return canvas
