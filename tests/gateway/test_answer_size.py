"""What no message could carry back is refused before any work, with a way that is open."""

import numpy as np
import pytest

from gateway.bounds import check_answer_size
from gateway.flows.inpaint import inpaint
from kandinsky.catalog.catalog import Catalog
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import images, tensors
from kandinsky.wire.channels import MESSAGE_BYTES
from kandinsky.wire.errors import KandinskyError, Reason
from tests.gateway.errors import failure

FILES = {
    side: {"encoded": images.encode(np.zeros((side, side, 3), np.uint8), "png")}
    for side in (1024, 2048, 4096)
}


def crop(sides, form="FLOAT_PIXELS"):
    """An inpainting request that answers images of these sides."""
    return generation.InpaintRequest(
        model="tiny",
        prompts=["a"] * len(sides),
        images=[FILES[side] for side in sides],
        mask={"pixels": tensors.encode(np.full((64, 64), 255, np.uint8))},
        padding_mask_crop=8,
        settings={"output_format": f"OUTPUT_FORMAT_{form}", "height": 64, "width": 64},
    )


PNG = {"format": "PNG"}
STREAM = {"rpc": "Inpaint"}
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
    "a file of the largest picture": ([4096], "PNG", None, None),
    "pixels of the largest picture": ([4096], "PIXELS", None, None),
    "floats that fit": ([2048], "FLOAT_PIXELS", None, None),
}


@pytest.fixture
def models(catalog):
    return {"tiny": Catalog.load((catalog,))["tiny"]}


def advice(draft, streams):
    try:
        check_answer_size(draft, "Inpaint", streams=streams)
    except KandinskyError as error:
        assert error.reason is Reason.ANSWER_TOO_LARGE
        return error.metadata
    return None


@pytest.mark.parametrize(("sides", "form", "unary", "stream"), ADVICE.values(), ids=ADVICE)
def test_the_way_that_is_open(models, monkeypatch, sides, form, unary, stream):
    monkeypatch.setattr("gateway.flows.inpaint.REQUEST_PIXELS", 2**62)
    monkeypatch.setattr("gateway.reading.REQUEST_PIXELS", 2**62)
    draft = inpaint(crop(sides, form), models)
    assert (advice(draft, False), advice(draft, True)) == (unary, stream)


@pytest.mark.parametrize("form", ["", "Unary"])
async def test_refused_before_any_stage_is_asked(api, stages, form):
    error = await failure(getattr(api, f"Inpaint{form}")(crop([4096])))
    assert error.reason is Reason.ANSWER_TOO_LARGE
    assert error.message.endswith(f"and one message holds {MESSAGE_BYTES}; ask for PNG")
    assert stages.calls == []


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_of_noise_is_no_larger_than_is_counted_with(form):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    quality = {"JPEG": 100, "WEBP": None}.get(form)
    assert len(images.encode(noise, form.lower(), quality)) <= 3 * 512 * 512 + 2**16
