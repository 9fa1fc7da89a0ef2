"""The training set: scenes of the combinations not held out, drawn once and kept as arrays."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training.shapes.drawing import draw, layers
from training.shapes.vocabulary import LANGUAGES, SIZES, Scene, caption, combinations, is_held_out

COUNT = 20_000
UNNAMED = 0.35  # share of images in colours without a name, captioned by shape and size alone
CLIP_SIZE = 64  # pixels, what the image encoder sees


def scenes(count: int = COUNT, held_out: bool = False, seed: int = 0) -> list[Scene]:
    """A seeded draw of scenes, all inside or all outside the held-out combinations."""
    rng = random.Random(seed)
    pool = [c for c in combinations() if is_held_out(*c) == held_out]
    return [
        Scene(s, c, b, rng.choice(SIZES)) for c, s, b in (rng.choice(pool) for _ in range(count))
    ]


def training_scenes() -> list[Scene]:
    """What images.npy shows, in order: named combinations not held out, and unnamed colours."""
    rng = random.Random(4)
    return [
        replace(scene, colour=None, background=None) if rng.random() < UNNAMED else scene
        for scene in scenes()
    ]


def said_part(scene: Scene, rng: random.Random) -> Scene:
    """What a caption tells of a scene: size, ground or colour are left out at random."""
    said = replace(scene, size=scene.size if rng.random() < 0.8 else "")
    if rng.random() < 0.15:
        said = replace(said, background=None)
    if rng.random() < 0.08:
        said = replace(said, colour=None)
    return said


def some_caption(scene: Scene, rng: random.Random) -> str:
    return caption(said_part(scene, rng), rng.choice(LANGUAGES), rng.randrange(3))


def prepare(work: Path) -> None:
    """Writes images.npy [N, 128, 128, 3] and small.npy [N, 64, 64, 3], uint8."""
    if (work / "small.npy").exists():
        return
    from PIL import Image

    rng = random.Random(1)
    images = [draw(s, rng) for s in training_scenes()]
    np.save(work / "images.npy", np.stack([np.asarray(p) for p in images]))
    small = [p.resize((CLIP_SIZE, CLIP_SIZE), Image.Resampling.BICUBIC) for p in images]
    np.save(work / "small.npy", np.stack([np.asarray(p) for p in small]))


def shape_masks() -> np.ndarray:
    """uint8 [N, 128, 128]: where the shape is, for each image of images.npy."""
    rng = random.Random(1)
    return np.stack([np.asarray(layers(scene, rng)[0]) for scene in training_scenes()])


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP, as CLIPImageProcessor's default
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(batch: np.ndarray) -> torch.Tensor:
    """uint8 [B, 64, 64, 3] to what CLIPImageProcessor gives: float32 [B, 3, 64, 64]."""
    pixels = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std


def movq_pixels(batch: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1
