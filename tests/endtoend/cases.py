"""Drawn images, so that all is known of what a flow starts from, and what its answers show."""

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from PIL import Image

from training.shapes.flows import Drawn, another, drawn, shares
from training.shapes.vocabulary import Scene, combinations

COUNT = 12


@dataclass(frozen=True)
class Case(Drawn):
    """A drawn image, and another object that could stand on its ground."""

    other: Scene


def said(scene: Scene) -> str:
    size = f"{scene.size} " if scene.size else ""
    return f"a {size}{scene.colour} {scene.shape} on a {scene.background} background"


def case(seed: int, size: str = "big") -> Case:
    rng = random.Random(seed)
    colour, shape, background = rng.choice(combinations())
    scene = Scene(shape, colour, background, size)
    start = drawn(scene, seed)
    return Case(seed, scene, start.image, start.shape, another(scene, rng))


CASES = [case(seed) for seed in range(COUNT)]


def at_once(do: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(COUNT) as pool:
        return list(pool.map(do, items))


def assert_shows(images: list[Image.Image], scenes: list[Scene]) -> None:
    right = shares(list(zip(images, scenes, strict=True)))
    bars = {"colour": 0.9, "background": 0.9, "shape": 0.8}
    assert all(right[name] >= bar for name, bar in bars.items()), right
