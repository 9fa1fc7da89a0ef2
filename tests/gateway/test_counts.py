"""A request that names too many of anything is refused without one of them being looked at."""

import sys
import tracemalloc

import numpy as np
import pytest

from gateway.flows.control import control
from gateway.flows.image_to_image import image_to_image
from gateway.flows.inpaint import inpaint
from gateway.flows.mix import mix
from gateway.flows.outpaint import outpaint
from gateway.flows.text_to_image import text_to_image
from gateway.flows.variation import variation
from kandinsky.catalog.catalog import Catalog
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError
from tests.gateway.errors import failure

FEW, MANY = 9, 200_000
"""Both are more than the 8 that the model allows."""
IMAGE = {"pixels": tensors.encode(np.zeros((64, 64, 3), np.uint8))}


def rows(count):
    return tensors.encode(np.zeros((count, 1), np.float32))


def axes(count):
    return tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[1] * count, data=b"1234")


TOO_MANY = {
    "prompts": (text_to_image, "TextToImage", lambda n: {"prompts": ["a"] * n}),
    "blank prompts": (text_to_image, "TextToImage", lambda n: {"prompts": [""] * n}),
    "negative prompts": (
        text_to_image,
        "TextToImage",
        lambda n: {"prompts": ["a"], "negative_prompts": ["x"] * n},
    ),
    "embeddings": (text_to_image, "TextToImage", lambda n: {"image_embeds": rows(n)}),
    "negative embeddings": (
        text_to_image,
        "TextToImage",
        lambda n: {"image_embeds": rows(1), "negative_image_embeds": rows(n)},
    ),
    "noise": (
        text_to_image,
        "TextToImage",
        lambda n: {"prompts": ["a"], "prior_latents": rows(n)},
    ),
    "axes": (text_to_image, "TextToImage", lambda n: {"prompts": ["a"], "latents": axes(n)}),
    "axes of a picture": (
        variation,
        "Variation",
        lambda n: {"image": {"pixels": axes(n)}},
    ),
    "conditions": (mix, "Mix", lambda n: {"conditions": [{"text": "a", "weight": 1}] * n}),
    "pictures": (
        image_to_image,
        "ImageToImage",
        lambda n: {"prompts": ["a"], "images": [{"encoded": b""}] * n},
    ),
    "masks": (
        inpaint,
        "Inpaint",
        lambda n: {"prompts": ["a"], "image": IMAGE, "masks": [{}] * n},
    ),
    "pictures to grow": (outpaint, "Outpaint", lambda n: {"prompts": ["a"], "images": [{}] * n}),
    "pictures to vary": (variation, "Variation", lambda n: {"images": [{}] * n}),
    "hints": (control, "Control", lambda n: {"prompts": ["a"], "hints": [{}] * n}),
}


@pytest.fixture
def models(catalog):
    return {"tiny": Catalog.load((catalog,))["tiny"]}


def instructions(plan, request, models):
    """Bytecode instructions that planning a request takes before it is refused."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        plan(request, models)
    except KandinskyError:
        return count
    finally:
        sys.settrace(None)
    raise AssertionError("was not refused")


@pytest.mark.parametrize(("plan", "flow", "fields"), TOO_MANY.values(), ids=TOO_MANY)
def test_the_work_does_not_grow_with_the_count(models, plan, flow, fields):
    few, many = (
        getattr(generation, f"{flow}Request")(model="tiny", **fields(count))
        for count in (FEW, MANY)
    )
    instructions(plan, few, models)  # what is done once
    expected = instructions(plan, few, models)
    assert abs(instructions(plan, many, models) - expected) <= 50
    tracemalloc.start()
    try:
        with pytest.raises(KandinskyError):
            plan(many, models)
        # A list of as many references alone would be more; a tensor's bytes are read at once.
        assert tracemalloc.get_traced_memory()[1] < 8 * MANY / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (10_000, "prompts: there are 10000; the most is 8"),
        (MANY, "prompts: the request holds more than 16384 values"),  # not even decoded
    ],
)
async def test_the_whole_gateway_refuses_many_prompts(api, stages, count, message):
    request = generation.TextToImageRequest(model="tiny", prompts=["a"] * count)
    error = await failure(api.TextToImage(request))
    assert error.message == message
    assert stages.calls == []
