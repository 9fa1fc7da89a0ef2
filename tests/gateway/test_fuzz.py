"""Hostile requests of every flow end in a plan or in a domain error, never in another exception."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.flows.control import control
from gateway.flows.image_to_image import image_to_image
from gateway.flows.inpaint import inpaint
from gateway.flows.mix import interpolate_frames, mix
from gateway.flows.outpaint import outpaint
from gateway.flows.text_guided_edit import text_guided_edit
from gateway.flows.text_to_image import text_to_image
from gateway.flows.variation import variation
from kandinsky.catalog.catalog import CatalogEntry, Flow
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire.errors import KandinskyError
from tests.gateway.test_bad_inputs import GOOD

FLOWS = {
    "TextToImage": text_to_image,
    "Mix": mix,
    "InterpolateFrames": interpolate_frames,
    "ImageToImage": image_to_image,
    "Inpaint": inpaint,
    "Outpaint": outpaint,
    "Variation": variation,
    "Control": control,
    "TextGuidedEdit": text_guided_edit,
}
MODELS = {
    "tiny": CatalogEntry.model_validate(
        {
            "name": "tiny",
            "description": "A model.",
            "family": "kandinsky-2-2",
            "decoder_reads_text": True,
            "stages": {stage: {"model": "other"} for stage in ("encoders", "prior", "decoder")},
            "flows": list(Flow),
            "defaults": {"height": 64, "width": 64, "steps": 2, "guidance_scale": 4},
            "limits": {"size_multiple": 64, "min_size": 64, "max_size": 256},
        }
    )
}


def planned(flow: str, request: Any) -> None:
    try:
        plan = FLOWS[flow](request, MODELS)
    except KandinskyError as error:
        assert error.violations or error.metadata
    else:
        assert plan.images


@pytest.mark.parametrize("flow", FLOWS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_damaged_bytes(flow: str, data: st.DataObject) -> None:
    """A good request with some bytes changed, dropped or put in."""
    cls = getattr(generation, f"{flow}Request")
    fields = GOOD.get(flow, {"prompts": ["a"]})
    good = cls(model="tiny", settings={"seed": 1, "steps": 3}, **fields).SerializeToString()
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(6, len(damaged) - 1))  # the model's name stays
        match data.draw(st.sampled_from(("change", "drop", "put in"))):
            case "change":
                damaged[at] = data.draw(st.integers(0, 255))
            case "drop":
                del damaged[at]
            case _:
                damaged.insert(at, data.draw(st.integers(0, 255)))
    try:
        request = cls.FromString(bytes(damaged))
    except DecodeError:
        return
    planned(flow, request)


NUMBERS = st.sampled_from([-(2**31), -1, 0, 1, 63, 64, 2**31 - 1]) | st.integers(-300, 300)
SHARES = st.floats(width=64) | st.sampled_from([0.0, 1e-300, 0.5, 1.0])


@pytest.mark.parametrize("flow", FLOWS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_any_numbers(flow: str, data: st.DataObject) -> None:
    """Every number of a request and its settings, drawn from all that its type can hold."""
    cls = getattr(generation, f"{flow}Request")
    request = cls(model="tiny", **GOOD.get(flow, {"prompts": ["a"]}))
    for message in (request, request.settings):
        for field in message.DESCRIPTOR.fields:
            if field.is_repeated or not data.draw(st.booleans()):
                continue
            if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_ENUM):
                setattr(message, field.name, data.draw(NUMBERS))
            elif field.cpp_type == field.CPPTYPE_DOUBLE:
                setattr(message, field.name, data.draw(SHARES))
    planned(flow, request)
