"""Inpainting and outpainting on `shapes` fill what is to be filled and keep the rest."""

from collections.abc import Callable

import grpc
import numpy as np
import pytest
from PIL import Image

from kandinsky.client import Client
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from tests.endtoend.cases import CASES, COUNT, Case, assert_shows, at_once, case, said
from tests.endtoend.conftest import System
from training.shapes.vocabulary import Scene

CELL = 8
"""Pixels of a latent cell."""


@pytest.fixture(scope="module")
def inpainted(client: Client) -> list[Image.Image]:
    return at_once(
        lambda c: client.inpaint(c.image, c.hole, said(c.other), seed=c.seed)[0].image, CASES
    )


def test_inpaint_fills_the_hole_with_what_was_asked(inpainted: list[Image.Image]) -> None:
    assert_shows(inpainted, [c.other for c in CASES])


def ground(c: Case) -> Image.Image:
    """A mask: a small hole in the ground, where most objects do not reach."""
    mask = Image.new("L", c.image.size)
    mask.paste(255, (4, 4, 44, 44))
    return mask


@pytest.mark.parametrize(
    ("hole", "asked", "bar"),
    [
        pytest.param(ground, lambda c: c.scene, 0.5, id="a small hole gets more of the same"),
        pytest.param(lambda c: c.hole, lambda c: c.scene, 1.5, id="the object is drawn again"),
        pytest.param(lambda c: c.hole, lambda c: c.other, 2.5, id="another object is drawn"),
    ],
)
def test_inpaint_leaves_the_rest_as_the_autoencoder_gives_it(
    client: Client,
    system: System,
    hole: Callable[[Case], Image.Image],
    asked: Callable[[Case], Scene],
    bar: float,
) -> None:
    """Levels of 255 on average over objects of the usual size; a bar for each kind of hole.

    The autoencoder's norms run over the whole image: the more a hole's content differs from what
    was there, the more the rest moves. So each kind is held to its own bar.
    """

    def difference(c: Case) -> float:
        [image] = client.inpaint(c.image, hole(c), said(asked(c)), seed=c.seed)
        pixels = tensors.encode(np.asarray(c.image))
        latents = stub.EncodeLatents(
            decoder_pb2.EncodeLatentsRequest(pixels=pixels), metadata=metadata
        ).latents
        back = stub.DecodeLatents(
            decoder_pb2.DecodeLatentsRequest(latents=latents), metadata=metadata
        ).pixels
        moved = np.asarray(image.image, int) - tensors.decode(back, "pixels")
        return float(np.abs(moved)[away_from(hole(c))].mean())

    metadata = [("application", "shapes-decoder")]
    with grpc.insecure_channel(system.stages, options=OPTIONS) as channel:
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)
        differences = at_once(difference, [case(seed, size="") for seed in range(COUNT)])
    assert np.mean(differences) <= bar, differences


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
        [image] = client.outpaint(c.image, said(c.scene), seed=c.seed, **{side: 64})
        ground = np.median(np.asarray(c.image, float)[~c.shape], axis=0)
        turns = {"right": 0, "top": 3, "left": 2, "bottom": 1}[side]
        new = np.rot90(image.array, turns)[:, -56:]  # the cell at the seam apart
        return float(np.abs(np.median(new.reshape(-1, 3), axis=0) - ground).max())

    distances = at_once(distance, CASES[:4])
    assert max(distances) < 30, distances
