"""Scenes as images: drawn with Pillow four times too large, then averaged down."""

import math
import random

from PIL import Image, ImageDraw

from training.shapes.vocabulary import PALETTE, Scene

SIZE = 128  # pixels
OVERSAMPLING = 4


def outline(shape: str, radius: float, angle: float) -> list[tuple[float, float]]:
    """Corners of a shape around the origin, y down; `angle` in radians."""
    if shape == "diamond":  # which no caption knows
        polar = [(radius, i * math.pi / 2) for i in range(4)]
    elif shape == "square":
        polar = [(radius, math.pi / 4 + i * math.pi / 2) for i in range(4)]
    elif shape == "triangle":
        polar = [(radius, -math.pi / 2 + i * 2 * math.pi / 3) for i in range(3)]
    elif shape == "star":
        polar = [
            (radius if i % 2 == 0 else 0.42 * radius, -math.pi / 2 + i * math.pi / 5)
            for i in range(10)
        ]
    elif shape == "cross":
        long, short = 0.95 * radius, 0.31 * radius
        quarter = [(short, -short), (long, -short), (long, short)]
        points = [
            (x * math.cos(q) - y * math.sin(q), x * math.sin(q) + y * math.cos(q))
            for q in (i * math.pi / 2 for i in range(4))
            for x, y in quarter
        ]
        polar = [(math.hypot(x, y), math.atan2(y, x)) for x, y in points]
    else:
        raise ValueError(f"{shape!r} has no corners")
    return [(r * math.cos(a + angle), r * math.sin(a + angle)) for r, a in polar]


def shape_mask(
    shape: str,
    canvas: int,
    centre: tuple[float, float],
    radius: float,
    angle: float,
    hollow: float = 0.0,
):
    """A mode-L image [canvas, canvas], 255 inside the shape; `hollow` of its radius is left out."""
    mask = Image.new("L", (canvas, canvas), 0)
    pen = ImageDraw.Draw(mask)
    x, y = centre
    if shape == "ring":
        shape, hollow = "circle", 0.58
    for size, fill in ((radius, 255), (hollow * radius, 0)):
        if shape == "circle":
            pen.ellipse((x - size, y - size, x + size, y + size), fill=fill)
        else:
            pen.polygon([(x + dx, y + dy) for dx, dy in outline(shape, size, angle)], fill=fill)
    return mask


def unnamed_colours(rng: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two colours far from each other and from every named one."""
    found: list[tuple[int, ...]] = []
    while len(found) < 2:
        colour = tuple(rng.randrange(256) for _ in range(3))
        if min(math.dist(colour, named) for named in (*PALETTE.values(), *found)) > 60:
            found.append(colour)
    return found[0], found[1]


def layers(scene: Scene, rng: random.Random, hollow: float = 0.0):
    """The shape as a mode-L mask [SIZE, SIZE], and the colours of shape and ground.

    `rng` places, turns, scales and tints it. A scene without colours gets two that have no name,
    so that shapes are learnt apart from them. `hollow` is that of `shape_mask`.
    """
    canvas = SIZE * OVERSAMPLING
    low, high = (0.33, 0.40) if scene.size == "big" else (0.23, 0.30)
    radius = rng.uniform(low, high) * canvas
    margin = radius + 0.03 * canvas
    centre = (rng.uniform(margin, canvas - margin), rng.uniform(margin, canvas - margin))
    angle = math.radians(rng.uniform(-10, 10))
    mask = shape_mask(scene.shape, canvas, centre, radius, angle, hollow)

    def tint(name: str) -> tuple[int, ...]:
        return tuple(min(255, max(0, v + rng.randint(-8, 8))) for v in PALETTE[name])

    if scene.colour and scene.background:
        ink, ground = tint(scene.colour), tint(scene.background)
    else:
        ink, ground = unnamed_colours(rng)
    return mask.reduce(OVERSAMPLING), ink, ground


def draw(scene: Scene, rng: random.Random, hollow: float = 0.0) -> Image.Image:
    """A SIZE x SIZE RGB image of what `layers` gives."""
    mask, ink, ground = layers(scene, rng, hollow)
    image = Image.new("RGB", (SIZE, SIZE), ground)
    image.paste(Image.new("RGB", (SIZE, SIZE), ink), mask=mask)
    return image


def depth_map(mask: Image.Image, near: int = 255, far: int = 0) -> Image.Image:
    """A control hint: the shape at level `near` before a ground at level `far`, both 0 to 255."""
    return mask.point([round(far + (near - far) * level / 255) for level in range(256)])
