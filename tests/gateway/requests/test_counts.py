"""A request that names too many of anything is refused without one of them being looked at."""

import sys
import tracemalloc

import numpy as np
import pytest

from gateway.requests.validate import validate
from kandinsky.catalog.catalog import Catalog
from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError
from tests.gateway.errors import failure
from tests.gateway.messages import floats, mix, request, text, variation

FEW, MANY = 9, 200_000
"""Both are more than the 8 that the model allows."""


def rows(count):
    return tensors.encode(np.zeros((count, 1), np.float32))


def axes(count):
    return tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[1] * count, data=b"1234")


TOO_MANY = {
    "prompts": ("text", lambda n: {"guide": text(*["a"] * n)}),
    "blank prompts": ("text", lambda n: {"guide": text(*[""] * n)}),
    "negative texts": ("text", lambda n: {"negative": {"texts": ["x"] * n}}),
    "embeddings": (
        "embeddings",
        lambda n: {
            "guide.embeddings.conditionings": [
                {"image_embed": floats(1), "negative_image_embed": floats(1)}
            ]
            * n
        },
    ),
    "negative embeddings": ("text", lambda n: {"negative": {"image_embeds": rows(n)}}),
    "embeddings to start from": ("text", lambda n: {"prior.start.image_embeds": rows(n)}),
    "noise": ("text", lambda n: {"prior": {"latents": rows(n)}}),
    "axes": ("text", lambda n: {"decoder": {"latents": axes(n)}}),
    "axes of an image": ("variation", lambda n: {"guide": variation({"pixels": axes(n)})}),
    "sources": ("mix", lambda n: {"guide": mix(*[({"text": "a"}, 1)] * n)}),
    "images": ("text+image", lambda n: {"canvas.image.images": [{"encoded": b""}] * n}),
    "masks": ("text+inpaint", lambda n: {"canvas.inpaint.masks": [{}] * n}),
    "images to grow": ("text+outpaint", lambda n: {"canvas.outpaint.images": [{}] * n}),
    "images to vary": ("variation", lambda n: {"guide": variation(*[{}] * n)}),
    "hints": ("text+control", lambda n: {"control.hints": [{}] * n}),
}


@pytest.fixture
def models(catalog):
    entries = Catalog.load((catalog,))
    return {name: entries[name] for name in ("tiny", "hinted")}


def instructions(message, models):
    """Bytecode instructions that validating a request takes before it is refused."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        validate(message, models)
    except KandinskyError:
        return count
    finally:
        sys.settrace(None)
    raise AssertionError("was not refused")


@pytest.mark.parametrize(("flow", "changes"), TOO_MANY.values(), ids=TOO_MANY)
def test_the_work_does_not_grow_with_the_count(models, flow, changes):
    few, many = (request(flow, changes(count)) for count in (FEW, MANY))
    instructions(few, models)  # what is done once
    expected = instructions(few, models)
    assert abs(instructions(many, models) - expected) <= 50
    tracemalloc.start()
    try:
        with pytest.raises(KandinskyError):
            validate(many, models)
        # A list of as many references alone would be more; a tensor's bytes are read at once.
        assert tracemalloc.get_traced_memory()[1] < 8 * MANY / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (10_000, "guide.text.prompts: there are 10000; the most is 8"),
        (MANY, "guide: the request holds more than 16384 values"),  # not even decoded
    ],
)
async def test_the_whole_gateway_refuses_many_prompts(api, stages, count, message):
    error = await failure(api.Generate(request(guide=text(*["a"] * count))))
    assert error.message == message
    assert stages.calls == []
