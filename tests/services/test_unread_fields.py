"""A stage refuses by name every field of Conditioning that its family does not read."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import CanvasKind, ConditioningField, Stage, Unconditional
from kandinsky.v1 import conditioning_pb2, decoder_pb2, prior_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason
from services.transport import conditioning
from services.transport.settings import StageSettings
from tests import tiny_families
from tests.services.conftest import StageStubs, fields
from tests.stagehost import host_stages, load_family

NAMES = [field.name for field in conditioning_pb2.Conditioning.DESCRIPTOR.fields]
SAMPLING = [(name, stage) for name in sorted(FAMILIES) for stage in family(name).reads]
"""Each family with each of its stages that read Conditioning."""
AXES = {"text_mask": 1, "negative_text_mask": 1, "hint": 3}


def value(name: str) -> tensor_pb2.Tensor:
    """A tensor that the contract allows there."""
    if name.endswith("_mask"):
        return tensors.encode(np.ones(3, bool))
    axes = 2 if name.endswith("_states") else AXES.get(name, 1)
    return tensors.encode(np.ones((3,) * axes, np.float32))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's model `tiny`, made when first asked for."""

    @cache
    def folder(name: str) -> Path:
        tiny = tiny_families.module(name)
        return tiny.write_catalog(tiny.build(tmp_path_factory.mktemp(name)))

    return folder


def test_every_family_has_tiny_checkpoints() -> None:
    assert tiny_families.TINY.keys() == FAMILIES.keys()


@pytest.mark.parametrize(("name", "stage"), SAMPLING)
async def test_each_field_that_is_not_read_is_refused(
    catalog: Callable[[str], Path], name: str, stage: Stage
) -> None:
    read = {
        side + field.name
        for field in family(name).reads[stage]
        for side in ("", "negative_")
        # A hint is read by a UNet with one alone, which `tiny` has not.
        if field.name != "hint" and side + field.name in NAMES
    }
    unread = [each for each in NAMES if each not in read]
    assert unread
    start = "noise" if CanvasKind.NOISE in family(name).canvases else "inpaint"
    async with (
        host_stages("tiny", catalog(name)) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        stages = StageStubs(channel, host)
        for each in unread:
            with pytest.raises(KandinskyError) as error:
                await ask(stages, stage, each, start)
            assert error.value.reason is Reason.INVALID_FIELD
            assert f"conditioning.{each}" in fields(error.value)
            assert "does not read it" in error.value.message
        for each in sorted(read):
            with pytest.raises(
                KandinskyError
            ) as error:  # it lacks the others, or has a wrong shape
                await ask(stages, stage, each, start)
            assert "does not read it" not in error.value.message


async def ask(stages: StageStubs, stage: Stage, field: str, start: str) -> None:
    if stage is Stage.PRIOR:
        prior = prior_pb2.SampleEmbeddingRequest()
        prior.sampling.steps, prior.sampling.seed = 2, 0
        getattr(prior.conditioning, field).CopyFrom(value(field))
        await stages.sample_embedding(prior)
    else:
        decode = decoder_pb2.DecodeRequest()
        decode.sampling.steps, decode.sampling.seed = 2, 0
        decode.start.height = decode.start.width = 64
        getattr(decode.start, start).SetInParent()
        if start == "inpaint":
            latents = np.zeros((4, 8, 8), np.float32)
            decode.start.inpaint.latents.CopyFrom(tensors.encode(latents))
            mask = np.zeros((64, 64), np.uint8)
            decode.start.inpaint.mask.CopyFrom(tensors.encode(mask))
        getattr(decode.conditioning, field).CopyFrom(value(field))
        await stages.decode(decode)


@pytest.mark.parametrize(("name", "stage"), SAMPLING)
def test_networks_read_what_the_family_declares(
    catalog: Callable[[str], Path], name: str, stage: Stage
) -> None:
    settings = StageSettings.parse({"model": "tiny", "catalog": [str(catalog(name))]})
    loaded = load_family(settings, stage)
    network = loaded.network if stage is Stage.PRIOR else loaded.denoiser.network
    declared = {field.name: len(field.axes) for field in family(name).reads[stage]}
    shapes = network.shapes(64, 64)
    assert {name: len(shape) for name, shape in shapes.items()} == {
        name: axes for name, axes in declared.items() if name != "hint"
    }


def test_an_unconditional_side_of_zeros_may_be_left_out() -> None:
    """As a family declares it whose unconditional row is zeros, its mask too."""
    declared = (
        ConditioningField("text_states", ("tokens", "embedding"), Unconditional.ZEROS),
        ConditioningField("text_mask", ("tokens",), Unconditional.ZEROS),
    )
    shapes = {"text_states": (2, 3), "text_mask": (2,)}
    message = conditioning_pb2.Conditioning()
    message.text_states.CopyFrom(tensors.encode(np.ones((2, 3), np.float32)))
    message.text_mask.CopyFrom(tensors.encode(np.array([True, False])))
    rows = conditioning.read(message, declared, shapes, True, torch.empty(0))
    assert rows["text_states"].tolist() == [[[0.0] * 3] * 2, [[1.0] * 3] * 2]
    assert rows["text_mask"].tolist() == [[False, False], [True, False]]
    message.negative_text_states.CopyFrom(tensors.encode(np.full((2, 3), 2, np.float32)))
    rows = conditioning.read(message, declared, shapes, True, torch.empty(0))
    assert rows["text_states"][0].tolist() == [[2.0] * 3] * 2
    unguided = conditioning.read(message, declared, shapes, False, torch.empty(0))
    assert [len(tensor) for tensor in unguided.values()] == [1, 1]
