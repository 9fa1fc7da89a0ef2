"""Spherical interpolation reaches the image, in a mix and between frames."""

import numpy as np

from kandinsky.client.options import Embedding
from tests import tiny
from tests.parity.conftest import Chain, pixels
from tests.parity.test_flows import settings


async def test_a_spherical_blend_keeps_the_length_of_its_ends(chain: Chain) -> None:
    """Against the formula at the middle of a great circle, which a sum of the ends falls short of.

    Both the mix and the middle frame of an interpolation.
    """
    ends = np.random.default_rng(6).standard_normal((2, tiny.WIDTH))
    lengths = np.linalg.norm(ends, axis=1, keepdims=True)
    toward = (ends / lengths).sum(0)
    middle = lengths.mean() * toward / np.linalg.norm(toward)

    def sources(*vectors: np.ndarray) -> list[Embedding]:
        return [Embedding(vector.astype(np.float32)) for vector in vectors]

    async def mixed(*vectors: np.ndarray, weight: float, interpolation: str) -> np.ndarray:
        [image] = await chain.ask(
            "mix",
            sources(*vectors),
            [weight] * len(vectors),
            interpolation=interpolation,
            **settings(prior=False),
        )
        return pixels(image)

    expected = await mixed(middle, weight=1, interpolation="linear")
    linear = await mixed(*ends, weight=0.5, interpolation="linear")
    for weight in (0.5, 2):  # only their ratio counts
        actual = await mixed(*ends, weight=weight, interpolation="spherical")
        assert np.abs(actual - expected).max() <= 1
    frames = await chain.ask(
        "interpolate_frames", *sources(*ends), 3, interpolation="spherical", **settings(prior=False)
    )
    assert np.abs(pixels(frames[1]) - expected).max() <= 1
    assert np.abs(linear - expected).max() > 5
