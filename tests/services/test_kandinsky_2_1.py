"""What the stages of Kandinsky 2.1 answer and refuse by themselves."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from kandinsky.catalog.entry import CatalogError
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError
from services.transport.settings import StageSettings
from tests import tiny, tiny_2_1
from tests.services.conftest import StageStubs, fields
from tests.stagehost import host_stages, load_family


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_2_1.write_catalog(tiny_2_1.build(tmp_path_factory.mktemp("tiny-2-1")))


@pytest.fixture
async def stages(checkpoint: Path) -> AsyncIterator[StageStubs]:
    async with (
        host_stages("tiny", checkpoint) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host)


async def decode_request(stages: StageStubs) -> decoder_pb2.DecodeRequest:
    """Guided by a text that the encoders have encoded."""
    asked = encoders_pb2.EncodeTextRequest(texts=["a red cat", ""])
    texts = await stages.encoders("EncodeText", asked)
    request = decoder_pb2.DecodeRequest(output=decoder_pb2.DECODE_OUTPUT_LATENTS)
    for side, encoding in zip(("", "negative_"), texts.encodings, strict=True):
        for part in ("text_embed", "text_states"):
            getattr(request.conditioning, side + part).CopyFrom(getattr(encoding.decoder, part))
        getattr(request.conditioning, side + "image_embed").CopyFrom(texts.zero_image_embed)
    request.sampling.steps, request.sampling.seed = 3, 0
    request.start.height = request.start.width = 64
    request.start.noise.SetInParent()
    return request


async def test_a_text_has_a_part_for_each_reader(stages: StageStubs) -> None:
    asked = encoders_pb2.EncodeTextRequest(texts=["red", "a red cat"])
    short, long = (await stages.encoders("EncodeText", asked)).encodings
    prior, decoder = short.prior, short.decoder
    assert list(prior.text_states.shape) == [tiny.POSITIONS, tiny.WIDTH]
    assert list(decoder.text_embed.shape) == [tiny.WIDTH]
    assert list(decoder.text_states.shape) == [tiny_2_1.POSITIONS, tiny_2_1.STATES_WIDTH]
    counts = [tensors.decode(text.decoder.text_mask, "").sum() for text in (short, long)]
    assert 2 < counts[0] < counts[1] < tiny_2_1.POSITIONS


def test_a_text_over_the_multilingual_limit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "prior" / "tokenizer" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "model_max_length": 1000}))  # CLIP's limit is in front
    settings = StageSettings.parse({"model": "tiny", "catalog": [str(tmp_path)]})
    family = load_family(settings, Stage.ENCODERS)
    family.check_text("o" * 74, "texts[0]")  # with "▁" before, "<s>" and "</s>" around
    with pytest.raises(KandinskyError, match="78 multilingual tokens; the most is 77") as refusal:
        family.check_text("o" * 75, "texts[0]")
    assert fields(refusal.value) == ["texts[0]"]


@pytest.mark.parametrize(
    "part", ["text_embed", "text_states", "negative_text_embed", "negative_text_states"]
)
@pytest.mark.parametrize("shape", [None, (5,), (76, tiny_2_1.STATES_WIDTH)])
async def test_a_decode_needs_its_text(
    stages: StageStubs, part: str, shape: tuple[int, ...] | None
) -> None:
    request = await decode_request(stages)
    request.conditioning.ClearField(part)
    if shape is not None:
        wrong = tensors.encode(np.zeros(shape, np.float32))
        getattr(request.conditioning, part).CopyFrom(wrong)
    with pytest.raises(KandinskyError) as refusal:
        await stages.decode(request)
    suffix = "" if shape is None else ".shape"
    assert fields(refusal.value) == [f"conditioning.{part}{suffix}"]


async def test_the_second_scheduler_of_the_checkpoint_goes_by_its_name(
    stages: StageStubs, tmp_path: Path
) -> None:
    request = await decode_request(stages)
    ddim = (await stages.decode(request))[-1].image.tensor
    request.sampling.scheduler = "ddpm"
    ddpm = (await stages.decode(request))[-1].image.tensor
    named = tiny_2_1.build(tmp_path, scheduler=tiny_2_1.ddpm_scheduler())
    request.sampling.ClearField("scheduler")
    async with (
        host_stages("tiny", tiny_2_1.write_catalog(named)) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        expected = (await StageStubs(channel, host).decode(request))[-1].image.tensor
    assert ddpm == expected
    assert ddim != expected


def test_encoders_without_multilingual_clip_say_what_is_missing(
    checkpoint: Path, tmp_path: Path
) -> None:
    text = (checkpoint / "tiny.yaml").read_text()
    text = text.replace(", decoder_text: {folder: decoder}", "")
    (tmp_path / "tiny.yaml").write_text(text.replace("folder: ", f"folder: {checkpoint}/"))
    with pytest.raises(CatalogError, match="decoder_text"):
        StageSettings.parse({"model": "tiny", "catalog": [str(tmp_path)]})
