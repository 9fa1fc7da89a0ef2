"""Drawn images, so that all is known of what a flow starts from, and what its answers show."""

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from training.shapes.classifier import classify
from training.shapes.drawing import draw, layers
from training.shapes.vocabulary import PALETTE, Scene, combinations

COUNT = 12


@dataclass
class Case:
    """A drawn picture, and another object that could stand on its ground."""

    seed: int
    scene: Scene
    picture: Image.Image
    shape: np.ndarray
    """bool [128, 128]: where the object is."""
    other: Scene

    @property
    def hole(self) -> Image.Image:
        """A mask: the box around the object, a little wider."""
        rows, columns = (np.flatnonzero(self.shape.any(axis)) for axis in (1, 0))
        box = columns[0] - 6, rows[0] - 6, columns[-1] + 6, rows[-1] + 6
        mask = Image.new("L", self.picture.size)
        mask.paste(255, tuple(int(np.clip(side, 0, 128)) for side in box))
        return mask


def said(scene: Scene) -> str:
    size = f"{scene.size} " if scene.size else ""
    return f"a {size}{scene.colour} {scene.shape} on a {scene.background} background"


def case(seed: int, size: str = "big") -> Case:
    rng = random.Random(seed)
    colour, shape, background = rng.choice(combinations())
    scene = Scene(shape, colour, background, size)
    others = [
        Scene(s, c, b, size)
        for c, s, b in combinations()
        if b == background and c != colour and s != shape
    ]
    mask = np.asarray(layers(scene, random.Random(seed))[0]) > 127
    return Case(seed, scene, draw(scene, random.Random(seed)), mask, rng.choice(others))


CASES = [case(seed) for seed in range(COUNT)]


def at_once(do: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(COUNT) as pool:
        return list(pool.map(do, items))


def shares(pictures: list[Image.Image], scenes: list[Scene]) -> dict[str, float]:
    """How many pictures show what was meant, by attribute."""
    pairs = [(classify(p), s) for p, s in zip(pictures, scenes, strict=True)]
    return {
        name: sum(getattr(seen, name) == getattr(meant, name) for seen, meant in pairs) / len(pairs)
        for name in ("colour", "background", "shape")
    }


def assert_shows(pictures: list[Image.Image], scenes: list[Scene]) -> None:
    right = shares(pictures, scenes)
    bars = {"colour": 0.9, "background": 0.9, "shape": 0.8}
    assert all(right[name] >= bar for name, bar in bars.items()), right


def ink(picture: Image.Image, scene: Scene) -> np.ndarray:
    """bool [H, W]: what is nearer to the object's colour than to the ground's."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    near, far = (
        np.linalg.norm(pixels - np.array(PALETTE[name], np.float32), axis=-1)
        for name in (scene.colour, scene.background)
    )
    return near < far


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum())
