"""What an image shows, by nearest colour and template overlap. No learning, no torch."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from training.shapes.drawing import shape_mask
from training.shapes.vocabulary import BACKGROUNDS, COLOURS, PALETTE, SHAPES

TEMPLATE = 32  # pixels a side of a shape cut out to its bounding box
ANGLES = np.radians([-10, -5, 0, 5, 10])
OUTLINES = (0.35, 0.5, 0.65)
"""Shares of a shape's radius that outlines leave out, from thick to thin."""


@dataclass(frozen=True)
class Attributes:
    colour: str
    background: str
    shape: str


def cut_out(mask: np.ndarray) -> np.ndarray:
    """A bool mask [height, width] cropped to its bounding box, as [TEMPLATE, TEMPLATE] 0 to 1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = Image.fromarray((box * 255).astype(np.uint8))
    return np.asarray(image.resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX)) / 255.0


@cache
def templates(shapes: tuple[str, ...], hollow: float) -> tuple[tuple[str, np.ndarray], ...]:
    drawn = []
    for shape in shapes:
        for angle in ANGLES:
            mask = shape_mask(shape, 256, (128, 128), 100, float(angle), hollow)
            drawn.append((shape, cut_out(np.asarray(mask) > 127)))
    return tuple(drawn)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two soft masks, 0 to 1."""
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def classify(image: Image.Image, shapes: tuple[str, ...] = SHAPES) -> Attributes:
    """The attributes of an image with one object. Shape is "none" where no object is found."""
    colour, background, found = _object(image)
    if found is None:
        return Attributes("none", background, "none")
    shape = max(templates(shapes, 0.0), key=lambda t: overlap(found, t[1]))[0]
    return Attributes(colour, background, shape)


def is_outline(image: Image.Image, shape: str) -> bool:
    """Whether the object of an image is nearer to an outline of a shape than to all of it."""
    _, _, found = _object(image)
    if found is None:
        return False

    def nearest(hollow: float) -> float:
        return max(overlap(found, template) for _, template in templates((shape,), hollow))

    return max(map(nearest, OUTLINES)) > nearest(0.0)


def _object(image: Image.Image) -> tuple[str, str, np.ndarray | None]:
    """The colours of object and ground, and the object cut out; None where there is none."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    names = list(PALETTE)
    distance = np.linalg.norm(
        pixels[:, :, None] - np.array([PALETTE[n] for n in names], np.float32), axis=-1
    )
    grounds = [names.index(b) for b in BACKGROUNDS]
    edge = np.ones(pixels.shape[:2], bool)
    edge[3:-3, 3:-3] = False
    nearest = np.asarray(grounds)[distance[edge][:, grounds].argmin(1)]
    ground = int(np.bincount(nearest).argmax())
    inks = [names.index(c) for c in COLOURS if names.index(c) != ground]
    label = distance.argmin(-1)
    counts = np.bincount(label.ravel(), minlength=len(names))
    ink = max(inks, key=lambda i: counts[i])
    mask = distance[:, :, ink] < distance[:, :, ground]
    if counts[ink] < 0.01 * label.size:
        return names[ink], names[ground], None
    return names[ink], names[ground], cut_out(mask)
