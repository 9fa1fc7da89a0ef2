"""What no message could carry back is refused before any work, with a way that is open."""

import numpy as np
import pytest

from gateway.planning.answer_size import check_answer_size
from gateway.planning.plan import plan
from gateway.requests.validate import validate
from kandinsky.catalog.catalog import Catalog
from kandinsky.wire import images, tensors
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import KandinskyError, Reason
from tests.gateway.errors import failure
from tests.gateway.messages import request, text

FILES = {
    side: {"encoded": images.encode(np.zeros((side, side, 3), np.uint8), "png")}
    for side in (1024, 2048, 4096)
}


def crop(sides, form="FLOAT_PIXELS"):
    """An inpainting request that answers images of these sides."""
    return request(
        guide=text(*["a"] * len(sides)),
        canvas={
            "inpaint": {
                "images": [FILES[side] for side in sides],
                "masks": [{"pixels": tensors.encode(np.full((64, 64), 255, np.uint8))}],
                "padding_mask_crop": 8,
            }
        },
        decoder={"height": 64, "width": 64},
        output={"format": f"OUTPUT_FORMAT_{form}"},
    )


PNG = {"format": "PNG"}
STREAM = {"rpc": "Generate"}
ADVICE = {
    "one too large to stream": ([4096], "FLOAT_PIXELS", PNG, PNG),
    "the second too large": ([1024, 4096], "FLOAT_PIXELS", PNG, PNG),
    "too many for one answer": ([2048] * 2, "FLOAT_PIXELS", STREAM, None),
    "as files still too many for one answer": (
        [4096, 1024, 4096],
        "FLOAT_PIXELS",
        {**PNG, **STREAM},
        PNG,
    ),
    "files too many for one answer": ([4096] * 2, "PNG", STREAM, None),
    "a file of the largest image": ([4096], "PNG", None, None),
    "pixels of the largest image": ([4096], "PIXELS", None, None),
    "floats that fit": ([2048], "FLOAT_PIXELS", None, None),
}


@pytest.fixture
def models(catalog):
    return {"tiny": Catalog.load((catalog,))["tiny"]}


def advice(planned, streams):
    try:
        check_answer_size(planned, streams=streams)
    except KandinskyError as error:
        assert error.reason is Reason.ANSWER_TOO_LARGE
        return error.metadata
    return None


@pytest.mark.parametrize(("sides", "form", "unary", "stream"), ADVICE.values(), ids=ADVICE)
def test_the_way_that_is_open(models, monkeypatch, sides, form, unary, stream):
    monkeypatch.setattr("gateway.planning.canvases.inpaint.REQUEST_PIXELS", 2**62)
    monkeypatch.setattr("gateway.requests.value_reader.REQUEST_PIXELS", 2**62)
    planned = plan(validate(crop(sides, form), models))
    assert (advice(planned, False), advice(planned, True)) == (unary, stream)


@pytest.mark.parametrize("rpc", ["Generate", "GenerateImages"])
async def test_refused_before_any_stage_is_asked(api, stages, rpc):
    error = await failure(getattr(api, rpc)(crop([4096])))
    assert error.reason is Reason.ANSWER_TOO_LARGE
    assert error.message.endswith(f"and one message holds {MESSAGE_BYTES}; ask for PNG")
    assert stages.calls == []


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_of_noise_is_no_larger_than_is_counted_with(form):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    quality = {"JPEG": 100, "WEBP": None}.get(form)
    assert len(images.encode(noise, form.lower(), quality)) <= 3 * 512 * 512 + 2**16
