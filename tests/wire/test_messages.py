"""Bytes to requests: what cannot be decoded, and what holds too much."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandinsky.v1 import prior_pb2
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire.errors import KandinskyError
from kandinsky.wire.messages import MOST_VALUES, UndecodableError, parse

KIND = GenerateRequest
UNDECODABLE = {
    "a tag without a value": b"\x0a",
    "a string longer than the message": b"\x0a\x05ab",
    "a string that is no UTF-8": b"\x0a\x01\xff",
    "a field number of zero": b"\x02\x00",
    "a group": b"\x0b\x0c",
    "a number without an end": b"\x08" + b"\xff" * 11,
    "a number cut off": b"\x08\xff",
    "a fixed number cut off": b"\x0d\x00",
    "a broken nested message": GenerateRequest(decoder={"steps": 300}).SerializeToString()[:-1],
}


@pytest.mark.parametrize("data", UNDECODABLE.values(), ids=UNDECODABLE)
def test_what_cannot_be_decoded_names_the_message(data: bytes) -> None:
    with pytest.raises(UndecodableError) as raised:
        parse(KIND, data)
    assert "kandinsky.v1.GenerateRequest" in raised.value.message
    assert [violation.field for violation in raised.value.violations] == [""]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        parsed = parse(KIND, data)
    except KandinskyError:
        return
    assert KIND.FromString(data) == parsed


def test_fields_of_another_release_are_no_fault() -> None:
    unknown = b"\xf8\x07\x01" + b"\xfa\x07\x02ab" + b"\xfd\x07" + bytes(4) + b"\xf9\x07" + bytes(8)
    assert parse(KIND, KIND(model="m").SerializeToString() + unknown).model == "m"


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        (KIND, b"\x12\x00" * (MOST_VALUES + 1), "guide"),
        (KIND, b"\xfa\x07\x00" * (MOST_VALUES + 1), ""),
        (
            GenerateRequest,
            GenerateRequest(
                negative={"image_embeds": {"shape": [1] * (MOST_VALUES + 1)}}
            ).SerializeToString(),
            "negative",
        ),
        (
            prior_pb2.SampleEmbeddingRequest,
            prior_pb2.SampleEmbeddingRequest(
                resume_from={"latents": {"shape": [1] * (MOST_VALUES + 1)}}
            ).SerializeToString(),
            "resume_from",
        ),
    ],
)
def test_more_values_than_any_request_needs_are_refused(kind, data, field) -> None:
    with pytest.raises(KandinskyError) as raised:
        parse(kind, data)
    assert [violation.field for violation in raised.value.violations] == [field]


def test_bulk_bytes_are_one_value() -> None:
    embeds = {"data": bytes(2**20), "shape": [2**18]}
    request = GenerateRequest(negative={"image_embeds": embeds})
    assert parse(GenerateRequest, request.SerializeToString()) == request
