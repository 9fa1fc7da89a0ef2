"""What the stages of Kandinsky 3 answer and refuse by themselves."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from diffusers import Kandinsky3Pipeline

from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.group import GroupKey
from services.transport.settings import StageSettings
from tests import tiny_3
from tests.services.answers import Options, running
from tests.services.asking import drawn, random_tensor
from tests.services.conftest import StageStubs, fields
from tests.stagehost import host_stages, load_family


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_3.write_catalog(tiny_3.build(tmp_path_factory.mktemp("tiny-3")))


@pytest.fixture
async def stages(checkpoint: Path) -> AsyncIterator[StageStubs]:
    async with (
        host_stages("tiny", checkpoint) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host)


def decode_request() -> decoder_pb2.DecodeRequest:
    """Guided by a text of five tokens, away from zeros."""
    request = decoder_pb2.DecodeRequest(output=decoder_pb2.DECODE_OUTPUT_LATENTS)
    states = random_tensor(tiny_3.POSITIONS, tiny_3.WIDTH, seed=1)
    request.conditioning.text_states.CopyFrom(states)
    request.conditioning.text_mask.CopyFrom(tensors.encode(np.arange(tiny_3.POSITIONS) < 5))
    request.sampling.steps, request.sampling.seed = 3, 0
    request.start.height = request.start.width = 64
    request.start.noise.SetInParent()
    return request


async def test_encodings_equal_the_reference(stages: StageStubs, checkpoint: Path) -> None:
    reference = Kandinsky3Pipeline.from_pretrained(checkpoint / "kandinsky-3")
    texts = ["a red cat", "", "dog"]
    asked = encoders_pb2.EncodeTextRequest(texts=texts)
    answer = await stages.encoders("EncodeText", asked)
    assert not answer.HasField("zero_image_embed")
    for text, encoding in zip(texts, answer.encodings, strict=True):
        states, _, mask, _ = reference.encode_prompt(text, False)
        assert [field.name for field, _ in encoding.ListFields()] == ["decoder"]
        made = encoding.decoder
        assert [field.name for field, _ in made.ListFields()] == ["text_states", "text_mask"]
        torch.testing.assert_close(tensors.to_torch(made.text_states, ""), states[0])
        assert tensors.to_torch(made.text_mask, "").equal(mask[0].bool())


async def test_images_are_not_encoded(stages: StageStubs) -> None:
    pixels = tensors.encode(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(KandinskyError, match="no image encoder") as refusal:
        await stages.encoders("EncodeImage", encoders_pb2.EncodeImageRequest(pixels=pixels))
    assert refusal.value.reason is Reason.FLOW_UNSUPPORTED


@pytest.mark.parametrize("part", ["text_states", "text_mask"])
@pytest.mark.parametrize("shape", [None, (5,), (127, tiny_3.WIDTH)])
async def test_a_decode_needs_its_text(
    stages: StageStubs, part: str, shape: tuple[int, ...] | None
) -> None:
    request = decode_request()
    request.conditioning.ClearField(part)
    if shape is not None:
        value = np.ones(shape, bool if part == "text_mask" else np.float32)
        getattr(request.conditioning, part).CopyFrom(tensors.encode(value))
    with pytest.raises(KandinskyError) as refusal:
        await stages.decode(request)
    suffix = "" if shape is None else ".shape"
    assert fields(refusal.value) == [f"conditioning.{part}{suffix}"]


async def test_states_past_a_text_s_end_are_not_read(stages: StageStubs) -> None:
    """But for one position: the reference cuts behind it."""
    request = decode_request()
    expected = drawn(await stages.decode(request))
    states = tensors.decode(request.conditioning.text_states, "").copy()
    for position, is_read in ((6, False), (127, False), (5, True), (4, True)):
        changed = states.copy()
        changed[position] = -changed[position]
        request.conditioning.text_states.CopyFrom(tensors.encode(changed))
        difference = np.abs(drawn(await stages.decode(request)) - expected).max()
        assert (difference > 1e-4) == is_read, position


@pytest.mark.parametrize(
    "options",
    [
        {"channels_last": True},
        {"attention": "sliced"},
        {"fuse_qkv": True},
        {"compile": True, "compile_backend": "aot_eager", "row_buckets": [3]},
    ],
    ids=str,
)
async def test_runtime_options_change_no_latent(
    stages: StageStubs, checkpoint: Path, options: Options
) -> None:
    expected = drawn(await stages.decode(decode_request()))
    async with running(checkpoint, Stage.DECODER, options) as others:
        latents = drawn(await others.decode(decode_request()))
    np.testing.assert_allclose(latents, expected, atol=1e-4)


def test_calibration_shares_forwards_with_requests(checkpoint: Path) -> None:
    settings = StageSettings.parse({"model": "tiny", "catalog": [str(checkpoint)]})
    decoder = load_family(settings, Stage.DECODER)
    keys = [
        GroupKey.of(phase, 0, phase.begin(None, torch.Generator()))
        for phase in (decoder.calibration_phase(64, 64), decoder.phases(decode_request())[0])
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
async def test_lower_precision_draws_about_the_same(
    stages: StageStubs, checkpoint: Path, dtype: str
) -> None:
    """Masked scores are within float16, whose largest number is 65,504."""
    expected = drawn(await stages.decode(decode_request()))
    async with running(checkpoint, Stage.DECODER, {"dtype": dtype}) as others:
        latents = drawn(await others.decode(decode_request())).astype(np.float32)
    assert np.abs(latents - expected).mean() < 0.1 * np.abs(expected).mean()


async def test_super_resolution_is_refused(stages: StageStubs) -> None:
    request = decode_request()
    request.super_resolution.steps = 7
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == ["super_resolution"]
