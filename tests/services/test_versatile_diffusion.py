"""What the stages of Versatile Diffusion answer and refuse by themselves."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from kandinsky.v1 import decoder_pb2, encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason
from tests import tiny_versatile
from tests.services.asking import random_tensor, sent_image
from tests.services.conftest import StageStubs, fields
from tests.stagehost import host_stages

PATCHES = 257


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_versatile.build(tmp_path_factory.mktemp("tiny-versatile"))
    return tiny_versatile.write_catalog(folder)


@pytest.fixture
async def stages(checkpoint: Path) -> AsyncIterator[StageStubs]:
    async with (
        host_stages("tiny", checkpoint) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host)


def decode_request(ratio: float, *, with_image: bool = True) -> decoder_pb2.DecodeRequest:
    request = decoder_pb2.DecodeRequest(output=decoder_pb2.DECODE_OUTPUT_LATENTS)
    for number, side in enumerate(("", "negative_")):
        text = random_tensor(tiny_versatile.POSITIONS, tiny_versatile.WIDTH, seed=number)
        getattr(request.conditioning, f"{side}text_states").CopyFrom(text)
        if with_image:
            image = random_tensor(PATCHES, tiny_versatile.WIDTH, seed=2 + number)
            getattr(request.conditioning, f"{side}image_states").CopyFrom(image)
    put_ratio(request, ratio)
    request.sampling.steps, request.sampling.seed = 4, 7
    request.start.height = request.start.width = 64
    request.start.noise.SetInParent()
    return request


def put_ratio(request: decoder_pb2.DecodeRequest, *ratio: float) -> None:
    request.conditioning.mix_ratio.CopyFrom(tensors.encode(np.array(ratio, np.float32)))


async def decoded(stages: StageStubs, request: decoder_pb2.DecodeRequest) -> np.ndarray:
    events = await stages.decode(request)
    return tensors.decode(events[-1].image.tensor, "image")


async def test_an_images_states_come_with_those_of_the_blank_one(stages: StageStubs) -> None:
    asked = encoders_pb2.EncodeImageRequest(pixels=sent_image())
    answer = await stages.encoders("EncodeImage", asked)
    assert [field.name for field, _ in answer.ListFields()] == [
        "image_states",
        "blank_image_states",
    ]
    states = tensors.decode(answer.image_states, "states")
    assert states.shape == (PATCHES, tiny_versatile.WIDTH)
    assert np.linalg.norm(states[0]) == pytest.approx(1, abs=1e-5)


async def test_a_text_alone_needs_no_image(stages: StageStubs) -> None:
    """With all of the share, whatever the image's states are."""
    without = await decoded(stages, decode_request(1.0, with_image=False))
    np.testing.assert_allclose(without, await decoded(stages, decode_request(1.0)), atol=1e-4)
    assert np.abs(without - await decoded(stages, decode_request(0.5))).max() > 1e-3


@pytest.mark.parametrize(
    ("ratio", "field"),
    [
        ((1.5,), "conditioning.mix_ratio.data"),
        ((-0.1,), "conditioning.mix_ratio.data"),
        ((np.nan,), "conditioning.mix_ratio.data"),
        ((0.5, 0.5), "conditioning.mix_ratio.shape"),
    ],
)
async def test_a_share_outside_of_0_to_1_is_refused(
    stages: StageStubs, ratio: tuple[float, ...], field: str
) -> None:
    request = decode_request(0.5)
    put_ratio(request, *ratio)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert error.value.reason is Reason.INVALID_FIELD
    assert fields(error.value) == [field]


@pytest.mark.parametrize("name", ["mix_ratio", "text_states", "negative_image_states"])
async def test_what_is_missing_is_named(stages: StageStubs, name: str) -> None:
    request = decode_request(0.5)
    request.conditioning.ClearField(name)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == [f"conditioning.{name}"]
