"""Which embedding the decoder is sent for a mix, for frames and for an edit: value by value."""

import numpy as np
import pytest

from kandinsky.wire import images, tensors
from tests.gateway import messages
from tests.gateway.messages import request, text_diff

LEFT, UP = np.array([3.0, 0, 0, 0]), np.array([0, 1.0, 0, 0])
HALF = 2 * (LEFT / 3 + UP) / np.sqrt(2)
"""Half-way between the two on the sphere: directions in equal parts, the mean of the lengths."""
SENT = {"encoded": images.encode(np.full((64, 64, 3), 7, np.uint8), "png")}


def embed(vector):
    return tensors.encode(np.asarray(vector, np.float64))


def sent(stages):
    """The image embedding of each DecodeRequest, in the order of its images."""
    requests = [call.request for call in stages.calls if call.method == "Decode"]
    return np.stack([tensors.decode(r.conditioning.image_embed, "embed") for r in requests])


def mix(**fields):
    sources = [({"image_embed": embed(vector)}, 0.5) for vector in (LEFT, UP)]
    return request(guide=messages.mix(*sources, **fields))


def frames(**fields):
    ends = {"first": {"image_embed": embed(LEFT)}, "last": {"image_embed": embed(UP)}}
    return request(guide={"interpolation": {"frames": 3, **ends, **fields}})


@pytest.mark.parametrize("way", ["UNSPECIFIED", "LINEAR"])
async def test_a_linear_blend(api, stages, way):
    await api.GenerateImages(mix(interpolation=f"INTERPOLATION_{way}"))
    await api.GenerateImages(frames(interpolation=f"INTERPOLATION_{way}"))
    middle = (LEFT + UP) / 2
    np.testing.assert_allclose(sent(stages), [middle, LEFT, middle, UP])


async def test_a_spherical_blend(api, stages):
    await api.GenerateImages(mix(interpolation="INTERPOLATION_SPHERICAL"))
    await api.GenerateImages(frames(interpolation="INTERPOLATION_SPHERICAL"))
    np.testing.assert_allclose(sent(stages), [HALF, LEFT, HALF, UP], atol=1e-12)


async def test_frames_between_opposites_keep_their_length(api, stages):
    last = {"image_embed": embed(-LEFT)}
    await api.GenerateImages(frames(last=last, interpolation="INTERPOLATION_SPHERICAL"))
    np.testing.assert_allclose(sent(stages), [LEFT, 3 * UP, -LEFT], atol=1e-12)


async def test_an_edit_goes_from_the_source_toward_the_target(api, stages):
    await api.GenerateImages(request(guide=text_diff(SENT, amount=0.25)))
    vector = {
        name: tensors.decode(tensor, name).astype(np.float64)
        for name, tensor in stages.made.items()
    }
    image, difference = vector["image 7"], vector["text 'b'"] - vector["text 'a'"]
    length = np.linalg.norm(image)
    z, d = image / length, difference / np.linalg.norm(difference)
    angle = np.arccos(z @ d)
    moved = (np.sin(0.75 * angle) * z + np.sin(0.25 * angle) * d) / np.sin(angle)
    np.testing.assert_allclose(sent(stages), [length * moved], atol=1e-5)
