"""Blending embeddings and moving one as two texts differ: the formulas, and what must hold."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.planning.embeddings import blend, slerp, text_diff
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError

VECTORS = arrays.arrays(np.float64, 6, elements=st.floats(-5, 5)).filter(
    lambda vector: np.linalg.norm(vector) > 0.1
)


def mixed(vectors, weights, spherical=False):
    embeds = [tensors.encode(np.asarray(vector)) for vector in vectors]
    fields = [f"sources[{i}]" for i in range(len(embeds))]
    return tensors.decode(blend(embeds, weights, fields, spherical=spherical), "blend")


@given(VECTORS, VECTORS, st.floats(-3, 3), st.floats(-3, 3))
def test_a_linear_blend_is_the_weighted_sum(a, b, v, w):
    np.testing.assert_allclose(mixed([a, b], [v, w]), v * a + w * b, atol=1e-12)


@given(VECTORS, VECTORS, st.floats(0, 1))
def test_a_spherical_blend_keeps_lengths_between_and_ends_at_the_ends(a, b, share):
    lengths = sorted([np.linalg.norm(a), np.linalg.norm(b)])
    length = np.linalg.norm(mixed([a, b], [1 - share, share], spherical=True))
    assert lengths[0] - 1e-6 <= length <= lengths[1] + 1e-6
    np.testing.assert_allclose(mixed([a, b], [1, 0], spherical=True), a, atol=1e-9)
    np.testing.assert_allclose(mixed([a, b], [0, 2], spherical=True), b, atol=1e-9)


@given(VECTORS, VECTORS, st.floats(0, 1))
def test_slerp_divides_the_angle(a, b, share):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b, -1, 1))
    if angle > np.pi - 1e-3 or angle < 1e-3:
        return
    made = slerp(a, b, share)
    assert abs(np.linalg.norm(made) - 1) < 1e-6
    assert abs(np.arccos(np.clip(a @ made, -1, 1)) - share * angle) < 1e-5


OPPOSITE = [
    np.eye(6)[2],
    np.full(6, 6**-0.5),
    np.arange(1.0, 7) / np.linalg.norm(np.arange(1.0, 7)),
]


@pytest.mark.parametrize("a", OPPOSITE)
@pytest.mark.parametrize("noise", [0, 1e-16, 1e-12, 1e-8, 1e-4])
def test_the_way_between_opposite_vectors_is_a_great_circle(a, noise):
    """From one to the other at even speed and full length, however nearly opposite they are."""
    b = -a + noise * np.eye(6)[0]
    b /= np.linalg.norm(b)
    way = np.stack([slerp(a, b, share) for share in np.linspace(0, 1, 9)])
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose((way[0], way[-1]), (a, b), atol=1e-8)
    angle = np.arctan2(np.linalg.norm(a + b), np.linalg.norm(a - b)) * 2
    angle = np.pi - angle
    np.testing.assert_allclose((way[:-1] * way[1:]).sum(1), np.cos(angle / 8), atol=1e-8)


def test_the_way_between_opposite_vectors_leads_over_the_least_aligned_axis():
    a = np.array([0.8, 0.0, -0.6])
    np.testing.assert_allclose(slerp(a, -a, 0.5), [0, 1, 0], atol=1e-12)


def test_a_spherical_blend_of_opposites_is_not_nothing():
    ends = [np.arange(1.0, 5), np.arange(-2.0, -10, -2)]
    half = mixed(ends, [0.5, 0.5], spherical=True)
    assert abs(np.linalg.norm(half) - 1.5 * np.linalg.norm(ends[0])) < 1e-9


def test_a_spherical_blend_with_a_zero_embedding_has_the_other_ones_direction():
    for vectors in ([np.zeros(3), np.eye(3)[1]], [np.eye(3)[1], np.zeros(3)]):
        np.testing.assert_allclose(mixed(vectors, [1, 1], spherical=True), np.eye(3)[1] / 2)


def test_three_spherical_weights_are_shares():
    """Equal weights of three orthogonal directions come near their middle, whatever the order."""
    made = mixed(np.eye(3), [1, 1, 1], spherical=True)
    assert made @ np.full(3, 3**-0.5) > 0.98


def test_one_embedding_of_weight_one_is_untouched():
    embed = tensors.encode(np.arange(4, dtype=np.float16))
    assert blend([embed], [1.0], ["sources[0]"], spherical=True) is embed


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_blend_has_the_dtype_of_its_first(dtype):
    assert mixed([np.ones(3, dtype), np.ones(3)], [0.5, 0.5]).dtype == dtype


def test_another_width_is_named():
    with pytest.raises(KandinskyError) as refused:
        mixed([np.ones(3), np.ones(4)], [1, 1])
    assert refused.value.violations[0].field == "sources[1].shape"


@given(VECTORS, VECTORS, VECTORS)
@example(image=np.eye(6)[0], source=np.eye(6)[0], target=np.zeros(6))
@example(image=np.ones(6), source=np.ones(6), target=-2 * np.ones(6))
def test_a_text_diff_keeps_the_length_and_goes_toward_the_difference(image, source, target):
    difference = target - source
    if np.linalg.norm(difference) < 0.1:
        return
    z = [tensors.encode(vector) for vector in (image, source, target)]
    moved = [
        tensors.decode(text_diff(*z, amount, "target_prompt"), "moved") for amount in (0, 0.5, 1)
    ]
    along = [vector @ difference for vector in moved]
    np.testing.assert_allclose(moved[0], image, atol=1e-6)
    assert along[0] <= along[1] + 1e-6 <= along[2] + 2e-6
    for vector in moved:
        assert abs(np.linalg.norm(vector) - np.linalg.norm(image)) < 1e-6


def test_texts_of_one_embedding_have_no_difference():
    z = tensors.encode(np.ones(3))
    with pytest.raises(KandinskyError, match="same"):
        text_diff(z, z, z, 0.5, "target_prompt")
