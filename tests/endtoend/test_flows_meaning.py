"""Every flow on `shapes` does what its name says. Pictures are drawn, so that all is known."""

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from kandinsky.client import Client
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from tests.endtoend.conftest import System
from training.shapes.classifier import classify
from training.shapes.drawing import depth_map, draw, layers
from training.shapes.vocabulary import PALETTE, Scene, combinations

COUNT = 12
CELL = 8
"""Pixels of a latent cell."""


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


@pytest.mark.parametrize("interpolation", ["linear", "spherical"])
def test_a_mix_moves_the_colour(client: Client, interpolation: str) -> None:
    def red_and_blue(weight: float) -> np.ndarray:
        images = client.mix(
            ["a red circle on a white background", "a blue circle on a white background"],
            [1 - weight, weight],
            interpolation=interpolation,
            images_per_prompt=4,
            seed=0,
        )
        pixels = np.stack([image.array for image in images]).astype(float)
        circle = pixels[pixels.sum(-1) < 620]
        return circle.mean(0)[[0, 2]]

    start, middle, end = (red_and_blue(weight) for weight in (0.0, 0.5, 1.0))
    assert start[0] > middle[0] + 30 > end[0] + 60
    assert start[1] < middle[1] - 30 < end[1] - 60


def test_frames_go_all_the_way(client: Client) -> None:
    scene = Scene("circle", "red", "white", "")
    ends = (said(scene), said(Scene("circle", "blue", "white", "")))
    frames = client.interpolate_frames(*ends, 5, seed=0)
    red = [frame.array[ink(frame.image, scene)][:, 0].astype(float).mean() for frame in frames]
    assert [classify(frames[i].image).colour for i in (0, 4)] == ["red", "blue"]
    assert red[0] > red[2] > red[4]


def test_a_variation_keeps_colour_and_shape(client: Client) -> None:
    varied = at_once(lambda c: client.variation(c.picture, seed=c.seed)[0].image, CASES)
    assert_shows(varied, [c.scene for c in CASES])


def test_image_to_image_keeps_the_layout_at_low_strength(client: Client) -> None:
    """Overlap of the object before and after, where the prompt leaves it what it is."""

    def kept(strength: float) -> float:
        def one(c: Case) -> float:
            [image] = client.image_to_image(
                c.picture, said(c.scene), strength=strength, guidance_scale=2, seed=c.seed
            )
            return overlap(ink(image.image, c.scene), c.shape)

        return float(np.mean(at_once(one, CASES)))

    low, high = kept(0.1), kept(1.0)
    assert low > 0.65, low
    assert low > high + 0.15, (low, high)


def test_image_to_image_follows_the_prompt_at_high_strength(client: Client) -> None:
    made = at_once(
        lambda c: client.image_to_image(c.picture, said(c.other), strength=1.0, seed=c.seed)[0],
        CASES,
    )
    assert_shows([image.image for image in made], [c.other for c in CASES])


@pytest.fixture(scope="module")
def inpainted(client: Client) -> list[Image.Image]:
    return at_once(
        lambda c: client.inpaint(c.picture, c.hole, said(c.other), seed=c.seed)[0].image, CASES
    )


def test_inpaint_fills_the_hole_with_what_was_asked(inpainted: list[Image.Image]) -> None:
    assert_shows(inpainted, [c.other for c in CASES])


def test_inpaint_leaves_the_rest_as_the_autoencoder_gives_it(
    client: Client, system: System
) -> None:
    """On average over holes about the object and holes in the ground beside it.

    The autoencoder's norms run over the whole picture: what fills a hole moves the rest a little.
    """
    beside = Image.new("L", (128, 128))
    beside.paste(255, (4, 4, 44, 44))

    def difference(c: Case, hole: Image.Image, scene: Scene) -> float:
        [image] = client.inpaint(c.picture, hole, said(scene), seed=c.seed)
        pixels = tensors.encode(np.asarray(c.picture))
        latents = stub.EncodeLatents(
            decoder_pb2.EncodeLatentsRequest(pixels=pixels), metadata=metadata
        ).latents
        back = stub.DecodeLatents(
            decoder_pb2.DecodeLatentsRequest(latents=latents), metadata=metadata
        ).pixels
        moved = np.asarray(image.image, int) - tensors.decode(back, "pixels")
        return float(np.abs(moved)[away_from(hole)].mean())

    metadata = [("application", "shapes-decoder")]
    small = [case(seed, size="") for seed in range(COUNT)]
    with grpc.insecure_channel(system.stages, options=OPTIONS) as channel:
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)
        replaced = at_once(lambda c: difference(c, c.hole, c.other), small)
        filled = at_once(lambda c: difference(c, beside, c.scene), small)
    assert np.mean([replaced, filled]) <= 2, (replaced, filled)


def away_from(hole: Image.Image) -> np.ndarray:
    """bool [128, 128]: cells that are neither in the hole nor near it.

    The hole takes its neighbours along, and the autoencoder looks over the edge of a cell.
    """
    cells = np.asarray(hole).reshape(128 // CELL, CELL, 128 // CELL, CELL).any((1, 3))
    for _ in range(2):
        padded = np.pad(cells, 1)
        cells = np.any([np.roll(padded, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], 0)
        cells = cells[1:-1, 1:-1]
    return ~np.kron(cells, np.ones((CELL, CELL), bool))


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_outpaint_continues_the_ground(client: Client, side: str) -> None:
    def distance(c: Case) -> float:
        [image] = client.outpaint(c.picture, said(c.scene), seed=c.seed, **{side: 64})
        ground = np.median(np.asarray(c.picture, float)[~c.shape], axis=0)
        turns = {"right": 0, "top": 3, "left": 2, "bottom": 1}[side]
        new = np.rot90(image.array, turns)[:, -56:]  # the cell at the seam apart
        return float(np.abs(np.median(new.reshape(-1, 3), axis=0) - ground).max())

    distances = at_once(distance, CASES[:4])
    assert max(distances) < 30, distances


def test_a_text_guided_edit_turns_the_colour_and_keeps_the_shape(client: Client) -> None:
    scenes = [
        Scene(shape, "red", ground, "big")
        for shape in ("circle", "square", "triangle", "star", "ring", "cross")
        for ground in ("white", "yellow")
    ]
    targets = [Scene(scene.shape, "blue", scene.background, "big") for scene in scenes]

    def edit(index: int) -> Image.Image:
        picture = draw(scenes[index], random.Random(index))
        texts = said(scenes[index]), said(targets[index])
        return client.text_guided_edit(picture, *texts, seed=index)[0].image

    assert_shows(at_once(edit, range(len(scenes))), targets)


def test_control_draws_where_the_depth_map_says(client: Client) -> None:
    def drawn(c: Case) -> Image.Image:
        hint = depth_map(layers(c.scene, random.Random(c.seed))[0], near=230, far=40)
        prompt = said(c.scene)
        [image] = client.control(hint, prompt, model="shapes-depth", seed=c.seed)
        return image.image

    pictures = at_once(drawn, CASES)
    assert_shows(pictures, [c.scene for c in CASES])
    overlaps = [overlap(ink(p, c.scene), c.shape) for p, c in zip(pictures, CASES, strict=True)]
    assert np.mean(overlaps) > 0.6, overlaps
    shifted = [
        overlap(ink(p, c.scene), np.roll(c.shape, 40, axis=(0, 1)))
        for p, c in zip(pictures, CASES, strict=True)
    ]
    assert np.mean(overlaps) > np.mean(shifted) + 0.25, shifted
