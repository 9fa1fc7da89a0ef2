"""How often what every other flow makes shows what was asked for, through a served system.

The rule: image i is drawn by a generator seeded i, its request takes seed i, and everything else
is left at the model's defaults.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from kandinsky.client import Client
from training.shapes.classifier import classify, overlap
from training.shapes.drawing import SIZE, depth_map, draw, layers
from training.shapes.vocabulary import PALETTE, Scene, caption, combinations, held_out

MODEL, DEPTH_MODEL, SD_MODEL = "shapes", "shapes-depth", "shapes-sd-inpaint"
REQUESTS = 8
"""Open at once; it changes how long this takes, and no image."""
MARGIN = 6
"""Pixels by which a hole is wider than the object in it."""
NEAR, FAR = 230, 40
"""Levels of a depth map."""


@dataclass(frozen=True)
class Drawn:
    """A drawn image, and what is known of it."""

    seed: int
    scene: Scene
    image: Image.Image
    shape: np.ndarray
    """bool [SIZE, SIZE]: where the object is."""

    @property
    def hole(self) -> Image.Image:
        """A mask: the box around the object, a little wider."""
        rows, columns = (np.flatnonzero(self.shape.any(axis)) for axis in (1, 0))
        corners = (columns[0] - MARGIN, rows[0] - MARGIN, columns[-1] + MARGIN, rows[-1] + MARGIN)
        left, top, right, bottom = (int(np.clip(side, 0, SIZE)) for side in corners)
        mask = Image.new("L", self.image.size)
        mask.paste(255, (left, top, right, bottom))
        return mask


def drawn(scene: Scene, seed: int) -> Drawn:
    """The image of a scene that seed draws."""
    shape = np.asarray(layers(scene, random.Random(seed))[0]) > 127
    return Drawn(seed, scene, draw(scene, random.Random(seed)), shape)


def another(scene: Scene, rng: random.Random) -> Scene:
    """Another shape in another colour that can stand on the same ground."""
    return rng.choice(
        [
            Scene(s, c, b, scene.size)
            for c, s, b in combinations()
            if b == scene.background and c != scene.colour and s != scene.shape
        ]
    )


Made = tuple[Image.Image, Scene]
"""An image that a flow made, and what it was to show."""


def inpaint(client: Client, seed: int, model: str = MODEL) -> Made:
    """The box around a big object is generated, another object asked for."""
    rng = random.Random(seed)
    colour, shape, background = rng.choice(combinations())
    scene = Scene(shape, colour, background, "big")
    before, target = drawn(scene, seed), another(scene, rng)
    [image] = client.inpaint(
        before.image, before.hole, caption(target, "en"), model=model, seed=seed
    )
    return image.image, target


def control(client: Client, seed: int) -> Made:
    """The depth map of a big object, its held-out combination asked for."""
    scene = _held_out(seed)
    mask, _, _ = layers(scene, random.Random(seed))
    hint = depth_map(mask, near=NEAR, far=FAR)
    [image] = client.control(hint, caption(scene, "en"), model=DEPTH_MODEL, seed=seed)
    return image.image, scene


def variation(client: Client, seed: int) -> Made:
    """A drawn image of a held-out combination, and nothing said."""
    scene = _held_out(seed)
    [image] = client.variation(drawn(scene, seed).image, model=MODEL, seed=seed)
    return image.image, scene


def text_guided_edit(client: Client, seed: int) -> Made:
    """A drawn image gets another colour, which makes its combination a held-out one."""
    target = _held_out(seed)
    rng = random.Random(seed)
    colours = [c for c, s, b in combinations() if (s, b) == (target.shape, target.background)]
    colour = rng.choice([c for c in colours if c != target.colour])
    before = Scene(target.shape, colour, target.background, target.size)
    texts = caption(before, "en"), caption(target, "en")
    [image] = client.text_guided_edit(drawn(before, seed).image, *texts, model=MODEL, seed=seed)
    return image.image, target


FLOWS: dict[str, Callable[[Client, int], Made]] = {
    "inpaint": inpaint,
    "inpaint by Stable Diffusion": partial(inpaint, model=SD_MODEL),
    "control": control,
    "variation": variation,
    "text-guided edit": text_guided_edit,
}


def evaluate(address: str, count: int) -> dict[str, dict[str, float]]:
    """By flow: shares that show the right colour, background and shape, of `count` images each.

    Control has `overlap` too: of the object with the hint's, intersection over union, on average.

    Args:
        address: HOST:PORT of a gateway that serves the three models of `shapes`.
        count: images of each flow; seeds 0 to count - 1.
    """
    figures = {}
    with Client(address) as client, ThreadPoolExecutor(REQUESTS) as pool:
        for name, flow in FLOWS.items():
            made = list(pool.map(lambda seed, flow=flow: flow(client, seed), range(count)))
            figures[name] = {"count": count, **shares(made)}
            if name == "control":
                figures[name]["overlap"] = round(_overlap(made), 4)
            print(name, figures[name], flush=True)
    return figures


def shares(made: Sequence[Made]) -> dict[str, float]:
    """How many of the images show the right colour, background and shape."""
    seen = [(classify(image), scene) for image, scene in made]
    return {
        name: round(sum(getattr(a, name) == getattr(b, name) for a, b in seen) / len(seen), 4)
        for name in ("colour", "background", "shape")
    }


def _held_out(seed: int) -> Scene:
    colour, shape, background = random.Random(seed).choice(held_out())
    return Scene(shape, colour, background, "big")


def _overlap(made: Sequence[Made]) -> float:
    return float(
        np.mean(
            [
                overlap(ink(image, scene), drawn(scene, seed).shape)
                for seed, (image, scene) in enumerate(made)
            ]
        )
    )


def ink(image: Image.Image, scene: Scene) -> np.ndarray:
    """bool [H, W]: what is nearer to the object's colour than to the ground's."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    near, far = (
        np.linalg.norm(pixels - np.array(PALETTE[name], np.float32), axis=-1)
        for name in (scene.colour, scene.background)
    )
    return near < far
