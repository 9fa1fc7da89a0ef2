"""Blending embeddings and moving one as two texts differ: the formulas, and what must hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.embeddings import blend, slerp, turn
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError

VECTORS = arrays.arrays(np.float64, 6, elements=st.floats(-5, 5)).filter(
    lambda vector: np.linalg.norm(vector) > 0.1
)


def mixed(vectors, weights, spherical=False):
    embeds = [tensors.encode(np.asarray(vector)) for vector in vectors]
    fields = [f"conditions[{i}]" for i in range(len(embeds))]
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


def test_three_spherical_weights_are_shares():
    """Equal weights of three orthogonal directions come near their middle, whatever the order."""
    made = mixed(np.eye(3), [1, 1, 1], spherical=True)
    assert made @ np.full(3, 3**-0.5) > 0.98


def test_one_embedding_of_weight_one_is_untouched():
    embed = tensors.encode(np.arange(4, dtype=np.float16))
    assert blend([embed], [1.0], ["conditions[0]"], spherical=True) is embed


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_blend_has_the_dtype_of_its_first(dtype):
    assert mixed([np.ones(3, dtype), np.ones(3)], [0.5, 0.5]).dtype == dtype


def test_another_width_is_named():
    with pytest.raises(KandinskyError) as refused:
        mixed([np.ones(3), np.ones(4)], [1, 1])
    assert refused.value.violations[0].field == "conditions[1].shape"


@given(VECTORS, VECTORS, VECTORS)
def test_a_turn_keeps_the_length_and_goes_toward_the_difference(image, source, target):
    difference = target - source
    if np.linalg.norm(difference) < 0.1:
        return
    z = [tensors.encode(vector) for vector in (image, source, target)]
    turned = [tensors.decode(turn(*z, amount, "target_prompt"), "turned") for amount in (0, 0.5, 1)]
    along = [vector @ difference for vector in turned]
    np.testing.assert_allclose(turned[0], image, atol=1e-6)
    assert along[0] <= along[1] + 1e-6 <= along[2] + 2e-6
    for vector in turned:
        assert abs(np.linalg.norm(vector) - np.linalg.norm(image)) < 1e-6


def test_texts_of_one_embedding_have_no_difference():
    z = tensors.encode(np.ones(3))
    with pytest.raises(KandinskyError, match="same"):
        turn(z, z, z, 0.5, "target_prompt")
