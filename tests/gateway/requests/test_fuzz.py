"""Hostile requests of every flow end in a plan or in a domain error, never in another exception."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.planning.plan import plan
from gateway.requests.validate import validate
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire.errors import KandinskyError
from tests.gateway.messages import FLOWS, request


def entry(name: str, family: str, **fields: Any) -> CatalogEntry:
    return CatalogEntry.model_validate(
        {
            "name": name,
            "description": "A model.",
            "family": family,
            "stages": {stage: {"model": "other"} for stage in ("encoders", "prior", "decoder")},
            "size": {"height": 64, "width": 64, "min": 64, "max": 256},
            "samplers": {"decoder": {"steps": 2}},
            **fields,
        }
    )


MODELS = {
    "tiny": entry("tiny", "kandinsky-2-1"),
    "hinted": entry("hinted", "kandinsky-2-2", control=True),
}


def planned(message: GenerateRequest) -> None:
    try:
        plan_ = plan(validate(message, MODELS))
    except KandinskyError as error:
        assert error.violations or error.metadata
    else:
        assert plan_.images


@pytest.mark.parametrize("flow", FLOWS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_damaged_bytes(flow: str, data: st.DataObject) -> None:
    """A good request with some bytes changed, dropped or put in."""
    good = request(flow, seed=1, decoder={"steps": 3}).SerializeToString()
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
        message = GenerateRequest.FromString(bytes(damaged))
    except DecodeError:
        return
    planned(message)


NUMBERS = st.sampled_from([-(2**31), -1, 0, 1, 63, 64, 2**31 - 1]) | st.integers(-300, 300)
SHARES = st.floats(width=64) | st.sampled_from([0.0, 1e-300, 0.5, 1.0])


@pytest.mark.parametrize("flow", FLOWS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_any_numbers(flow: str, data: st.DataObject) -> None:
    """Every number of a request, drawn from all that its type can hold."""
    message = request(flow)
    draw_numbers(message, data)
    planned(message)


def draw_numbers(message: Any, data: st.DataObject) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and field.has_presence and field.message_type:
            if message.HasField(field.name):
                draw_numbers(getattr(message, field.name), data)
        elif field.is_repeated or not data.draw(st.booleans()):
            continue
        elif field.message_type is not None:
            if field.message_type.name != "Tensor":
                draw_numbers(getattr(message, field.name), data)
        elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_ENUM):
            setattr(message, field.name, data.draw(NUMBERS))
        elif field.cpp_type == field.CPPTYPE_DOUBLE:
            setattr(message, field.name, data.draw(SHARES))
